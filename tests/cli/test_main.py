"""The command line as a person meets it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from camelid.cli import model_choice
from camelid.cli.generate import attachments_in_order
from camelid.cli.main import main
from camelid.core import ImagePart, TextPart, VideoPart
from camelid.testing import ScriptedGenerator


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedGenerator:
    """A scripted model in place of whatever would be loaded."""
    scripted = ScriptedGenerator(["a grinning face"])
    monkeypatch.setattr(model_choice, "load_model", lambda named, memory_gb=None: scripted)
    return scripted


def test_help_does_not_wait_for_torch() -> None:
    """Torch takes seconds to import; a person who asks for help should not notice any."""
    code = (
        "import sys; from camelid.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'matplotlib', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("pretrain", "generate", "chat", "demo", "data", "eval"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_help_names_every_form_of_model_that_is_read(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for form in ("Hugging Face", "Meta's", "LlamaForCausalLM", "GGUF"):
        assert form in out, form


def test_generate_takes_pictures_and_clips_in_order(
    model: ScriptedGenerator, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "What?", "--image", "a.png", "--video=b.webp", "--image", "c.png", "--top-k", "3"]
    assert main(words) == 0
    assert capsys.readouterr().out == "a grinning face\n"
    assert model.asked[0][0].parts == (
        ImagePart(Path("a.png")),
        VideoPart(Path("b.webp")),
        ImagePart(Path("c.png")),
        TextPart("What?"),
    )


def test_generate_reads_messages_and_prints_json(
    model: ScriptedGenerator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "image", "path": "x.png"}, {"type": "text", "text": "What?"}]},
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(messages)))
    assert main(["generate", "--json", "--max-tokens", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "text": "a grinning",
        "finish_reason": "length",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    assert [message.role for message in model.asked[0]] == ["system", "user"]


@pytest.mark.parametrize(
    ("typed", "words", "said"),
    [
        ("not json", ["generate"], "no JSON messages"),
        ('[{"role": "robot", "content": "hi"}]', ["generate"], "0.role"),
        ("", ["generate", "--image", "a.png"], "need a question"),
        ("", ["generate", "hi", "--temperature", "-1"], "temperature must be a number that is not negative"),
        ("", ["eval", "--kinds", "riddles"], "no kind of problem 'riddles'"),
        ("", ["data", "fetch", "moon"], "moon"),
        ("", ["pretrain", "no-such-recipe"], "no-such-recipe"),
    ],
)
def test_mistakes_are_one_red_line_and_exit_code_2(
    typed: str,
    words: list[str],
    said: str,
    model: ScriptedGenerator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("camelid: ")
    assert said in output.err
    assert "Traceback" not in output.err


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedGenerator([KeyboardInterrupt()])
    monkeypatch.setattr(model_choice, "load_model", lambda named, memory_gb=None: scripted)
    assert main(["generate", "hi"]) == 130


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(named: Path | None, memory_gb: float | None) -> ScriptedGenerator:
        raise ZeroDivisionError

    monkeypatch.setattr(model_choice, "load_model", broken)
    with pytest.raises(ZeroDivisionError):
        main(["generate", "hi"])


def test_order_survives_both_ways_of_writing_a_flag() -> None:
    words = ["generate", "--video", "v", "--image=i", "--json", "--video=w"]
    parts = attachments_in_order(words, [Path("i")], [Path("v"), Path("w")])
    assert parts == [VideoPart(Path("v")), ImagePart(Path("i")), VideoPart(Path("w"))]
