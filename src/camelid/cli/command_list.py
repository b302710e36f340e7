"""Which commands there are, and what `camelid --help` says of them. Nothing is imported before a command is chosen."""

from __future__ import annotations

import ast
import shutil
import textwrap
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["COMMANDS", "command_class", "overview"]

# Command: the module of this package that has its dataclass. The class is named as the command is, in camel case.
COMMANDS: Mapping[str, str] = {
    "pretrain": "commands",
    "distill": "commands",
    "herd": "herd",
    "long-context": "long_context",
    "sft": "commands",
    "rl": "post_training_commands",
    "dpo": "post_training_commands",
    "generate": "commands",
    "chat": "commands",
    "serve": "commands",
    "demo": "commands",
    "data": "commands",
    "eval": "commands",
    "claim": "claim",
    "experts": "commands",
    "inspect": "commands",
    "convert": "commands",
    "quantize": "commands",
    "export": "commands",
}


def command_class(name: str) -> type[Any]:
    """The dataclass of a command's flags, whose `run` does the work."""
    found: type[Any] = getattr(import_module(f"camelid.cli.{COMMANDS[name]}"), _class_name(name))
    return found


def overview() -> str:
    """All commands with the first lines of their docstrings, read from the sources: importing them takes longer."""
    docstrings = {
        node.name: ast.get_docstring(node) or ""
        for module in dict.fromkeys(COMMANDS.values())
        for node in ast.parse(Path(__file__).with_name(f"{module}.py").read_bytes()).body
        if isinstance(node, ast.ClassDef)
    }
    margin = max(map(len, COMMANDS)) + 4
    lines = [
        "usage: camelid COMMAND ...",
        "",
        "The whole Llama 4 system: train it, talk to it, judge it. New here? `camelid demo`.",
        "",
    ]
    for name in COMMANDS:
        lines += textwrap.wrap(
            docstrings[_class_name(name)].partition("\n")[0],
            min(shutil.get_terminal_size().columns, 110),
            initial_indent=f"  {name}".ljust(margin),
            subsequent_indent=" " * margin,
        )
    return "\n".join([*lines, "", "`camelid COMMAND --help` shows a command's flags."])


def _class_name(command: str) -> str:
    return "".join(word.capitalize() for word in command.split("-"))
