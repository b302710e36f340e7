"""A conversation with a scripted model."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from camelid.cli.chat import Chat, converse
from camelid.core import ImagePart, SamplingParams, TextPart, VideoPart
from camelid.core.errors import InputError
from camelid.testing import ScriptedGenerator


class Terminal:
    """Types lines and remembers what was shown."""

    def __init__(self, model: ScriptedGenerator) -> None:
        self.console = Console(file=io.StringIO(), width=100, force_terminal=False)
        self.chat = Chat(model, SamplingParams(), self.console)
        self.prompts: list[str] = []

    def type(self, *lines: str) -> str:
        waiting = iter(lines)

        def ask(prompt: str) -> str:
            self.prompts.append(prompt)
            line = next(waiting, None)
            if line is None:
                raise EOFError
            return line

        converse(self.chat, self.console, ask)
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()


def test_the_model_hears_all_turns() -> None:
    model = ScriptedGenerator(["first answer", "second answer"])
    terminal = Terminal(model)
    shown = terminal.type("one", "", "  two  ")
    assert "first answer\n" in shown
    assert [(message.role, message.text) for message in model.asked[1]] == [
        ("user", "one"),
        ("assistant", "first answer"),
        ("user", "two"),
    ]


def test_attachments_wait_for_the_next_question(picture_path: Path, clip_path: Path) -> None:
    model = ScriptedGenerator(["a face"])
    terminal = Terminal(model)
    terminal.type(f"/image '{picture_path}'", f"/video {clip_path}", "What is it?", "And now?")
    assert terminal.prompts[:4] == ["› ", "[1 attached] › ", "[2 attached] › ", "› "]
    assert model.asked[0][0].parts == (ImagePart(picture_path), VideoPart(clip_path), TextPart("What is it?"))
    assert model.asked[1][-1].parts == (TextPart("And now?"),)


def test_a_dropped_file_name_with_escaped_blanks_is_found(picture_path: Path) -> None:
    terminal = Terminal(ScriptedGenerator(["a face"]))
    terminal.type("/image " + str(picture_path).replace(" ", "\\ "))
    assert terminal.chat.attachments == [ImagePart(picture_path)]


def test_an_unreadable_file_is_told_and_not_attached(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    terminal = Terminal(ScriptedGenerator(["fine"]))
    shown = terminal.type(f"/image {broken}", f"/video {tmp_path / 'none.mp4'}", "/image", "still there?")
    assert "broken.png" in shown
    assert "none.mp4" in shown
    assert "which file? /image PATH" in shown
    assert "fine" in shown
    assert terminal.chat.attachments == []


def test_an_error_leaves_the_conversation_as_it_was(picture_path: Path) -> None:
    model = ScriptedGenerator(["hello", InputError("the prompt has 9999 tokens"), "again"])
    terminal = Terminal(model)
    shown = terminal.type("hi", f"/image {picture_path}", "a very long one", "short")
    assert "the prompt has 9999 tokens" in shown
    assert terminal.prompts[3] == "[1 attached] › ", "the picture still waits"
    assert [message.text for message in model.asked[2]] == ["hi", "hello", "short"]


def test_stopping_an_answer_keeps_the_chat() -> None:
    model = ScriptedGenerator([KeyboardInterrupt(), "yes"])
    shown = Terminal(model).type("tell me everything", "are you there?")
    assert "stopped" in shown
    assert "yes" in shown


def test_reset_help_and_unknown_commands() -> None:
    model = ScriptedGenerator(["one", "two"])
    shown = Terminal(model).type("hi", "/reset", "/help", "/dance", "hello", "/quit", "never read")
    assert "/video PATH" in shown
    assert "no command /dance" in shown
    assert [message.text for message in model.asked[1]] == ["hello"]
    assert len(model.asked) == 2


@pytest.mark.parametrize("answer", ["[bold]not markup[/bold]", "a :smile: b", "x " * 100])
def test_answers_are_shown_as_they_are(answer: str) -> None:
    assert answer.strip() in Terminal(ScriptedGenerator([answer])).type("say it")
