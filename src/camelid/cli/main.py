"""The way in: `camelid COMMAND`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import tyro

from camelid.cli.claim import Claim
from camelid.cli.commands import (
    Chat,
    Convert,
    Data,
    Demo,
    Distill,
    Eval,
    Experts,
    Export,
    Generate,
    Inspect,
    Pretrain,
    Quantize,
    Serve,
    Sft,
)
from camelid.cli.herd import Herd
from camelid.cli.long_context import LongContext
from camelid.cli.post_training_commands import Dpo, Rl

__all__ = ["main", "parse"]

Command = (
    Pretrain
    | Distill
    | Herd
    | LongContext
    | Sft
    | Rl
    | Dpo
    | Generate
    | Chat
    | Serve
    | Demo
    | Data
    | Eval
    | Claim
    | Experts
    | Inspect
    | Convert
    | Quantize
    | Export
)
DESCRIPTION = "The whole Llama 4 system: train it, talk to it, judge it. New here? `camelid demo`."

USER_ERROR, INTERRUPTED, PIPE_BROKEN = 2, 130, 141  # exit codes, as shells have them


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: what a person caused is one red line and 2, Ctrl-C is 130."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["pretrain"] and words[1:2] and not words[1].startswith("-"):
            return _pretrain_by_recipe(words[1], words[2:])
        if words[:1] == ["distill"] and words[1:2] and not words[1].startswith("-"):
            return _distill_by_recipe(words[1], words[2:])
        command = parse(words or ["--help"])
        if isinstance(command, Generate):
            return command.run(words)
        return command.run()
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


def parse(words: Sequence[str]) -> Command:
    """The command that the words mean; a mistake among them ends the program with an explanation."""
    command: Command = tyro.cli(Command, prog="camelid", description=DESCRIPTION, args=words)
    return command


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


def _say(error: Exception) -> int:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(f"camelid: {error}", style="red"), soft_wrap=True)
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
