"""`camelid chat`: a conversation in the terminal, with pictures and clips."""

from __future__ import annotations

import readline
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from camelid.cli.model_choice import StreamingCompleter
from camelid.cli.thumbnail import Thumbnail
from camelid.core import ImagePart, Message, Part, SamplingParams, VideoPart
from camelid.core.errors import CamelidError
from camelid.inputs import load_frames, load_image

__all__ = ["Chat", "converse", "prepare_line_editing"]

HELP = """\
  /image PATH   shows the model a picture, together with what you say next
  /video PATH   shows it a clip
  /reset        forgets the conversation
  /help         this
  /quit         leaves (so does Ctrl-D); Ctrl-C stops an answer"""
COMMANDS = ("/image ", "/video ", "/reset", "/help", "/quit")


class Chat:
    """The conversation so far and what is attached to the next message."""

    def __init__(self, completer: StreamingCompleter, sampling: SamplingParams, console: Console) -> None:
        self.messages: list[Message] = []
        self.attachments: list[Part] = []
        self._completer = completer
        self._sampling = sampling
        self._console = console

    @property
    def prompt(self) -> str:
        """What stands before the cursor; counts the attachments that wait for a question."""
        return f"[{len(self.attachments)} attached] › " if self.attachments else "› "

    def take(self, line: str) -> bool:
        """Obeys a command or answers a message; False when the person wants to leave.

        An error is shown and leaves the conversation as it was, attachments included.
        """
        text = line.strip()
        try:
            if text.startswith("/"):
                return self._obey(*text.partition(" ")[::2])
            if text:
                self._answer(text)
        except CamelidError as error:
            self._console.print(Text(str(error), style="red"))
        return True

    def _obey(self, command: str, argument: str) -> bool:
        match command:
            case "/quit" | "/exit":
                return False
            case "/help":
                self._say(HELP)
            case "/reset":
                self.messages, self.attachments = [], []
                self._say("forgotten")
            case "/image" | "/video" if not argument.strip():
                self._say(f"which file? {command} PATH")
            case "/image":
                path = _path(argument)
                self._console.print(Thumbnail(load_image(path), rows=10))
                self.attachments.append(ImagePart(path))
            case "/video":
                path = _path(argument)
                self._console.print(Thumbnail([frame.image for frame in load_frames(path)], rows=8))
                self.attachments.append(VideoPart(path))
            case _:
                self._say(f"no command {command}; /help lists them")
        return True

    def _answer(self, text: str) -> None:
        asked = [*self.messages, Message.of("user", *self.attachments, text)]
        answer = ""
        try:
            for piece in self._completer.stream(asked, self._sampling):
                answer += piece
                self._console.out(piece, end="", highlight=False)
        except KeyboardInterrupt:
            self._console.print(Text(" … stopped", style="dim"), end="")
        finally:
            self._console.print()
        self.messages = [*asked, Message.of("assistant", answer)]
        self.attachments = []

    def _say(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))


def converse(chat: Chat, console: Console, ask: Callable[[str], str] = input) -> None:
    """Reads lines until the person leaves; Ctrl-D at the prompt leaves too."""
    console.print(Text("Ask something. /help lists the commands.", style="dim"))
    while True:
        try:
            line = ask(chat.prompt)
        except EOFError:
            console.print()
            return
        if not chat.take(line):
            return


def prepare_line_editing() -> None:
    """Tab completes commands, and file names after /image and /video."""

    def complete(text: str, state: int) -> str | None:
        line = readline.get_line_buffer()
        if line.startswith(("/image ", "/video ")):
            options = sorted(_matching_paths(text))
        else:
            options = [command for command in COMMANDS if command.startswith(line)]
        return options[state] if state < len(options) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


def _matching_paths(start: str) -> list[str]:
    typed = Path(start).expanduser()
    folder, prefix = (typed, "") if start.endswith("/") or not start else (typed.parent, typed.name)
    try:
        return [f"{path}/" if path.is_dir() else str(path) for path in folder.glob(f"{prefix}*")]
    except (OSError, ValueError):
        return []


def _path(argument: str) -> Path:
    """As typed or dropped into the terminal: quotes and escaped blanks are taken off."""
    bare = argument.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1]
    return Path(bare.replace("\\ ", " ")).expanduser()
