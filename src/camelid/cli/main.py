"""The way in: `camelid COMMAND`."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any

from camelid.cli.command_list import COMMANDS, command_class, overview

__all__ = ["main", "parse"]

USER_ERROR, INTERRUPTED, PIPE_BROKEN = 2, 130, 141  # exit codes, as shells have them


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: what a person caused is one red line and 2, Ctrl-C is 130."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help"):
            print(overview())
            return 0
        if words[0] not in COMMANDS:
            alike = difflib.get_close_matches(words[0], COMMANDS, n=1)
            return _say(
                f"no command {words[0]!r}; {f'{alike[0]!r}?' if alike else '`camelid --help` lists them'}"
            )
        if words[0] == "pretrain" and words[1:2] and not words[1].startswith("-"):
            return _pretrain_by_recipe(words[1], words[2:])
        if words[0] == "distill" and words[1:2] and not words[1].startswith("-"):
            return _distill_by_recipe(words[1], words[2:])
        command = parse(words)
        exit_code: int = command.run(words) if words[0] == "generate" else command.run()
        return exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left. Nothing may be written when Python closes the file at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_BROKEN
    except Exception as error:
        if not _is_on_purpose(error):
            raise
        return _say(error)


def parse(words: Sequence[str]) -> Any:
    """The command that the words mean, the first of them its name; a mistake ends the program with an explanation."""
    import tyro

    return tyro.cli(command_class(words[0]), prog=f"camelid {words[0]}", args=words[1:])


def _pretrain_by_recipe(recipe: str, words: Sequence[str]) -> int:
    from camelid.cli.pretrain import parse_flags, start_run

    return start_run(parse_flags(recipe, words))


def _distill_by_recipe(recipe: str, words: Sequence[str]) -> int:
    from camelid.cli.distill import parse_flags, start_run

    return start_run(parse_flags(recipe, words))


def _is_on_purpose(error: Exception) -> bool:
    # The module is only looked up: importing core costs a second that `--help` must not pay.
    errors = sys.modules.get("camelid.core.errors")
    return errors is not None and isinstance(error, errors.CamelidError)


def _say(error: object) -> int:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(f"camelid: {error}", style="red"), soft_wrap=True)
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
