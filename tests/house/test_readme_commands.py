"""What the README tells people to type is understood."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from camelid.cli import distill, pretrain
from camelid.cli.main import parse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
LINES = [line for language, block in BLOCKS if not language for line in block.splitlines()]
CAMELID = [line for line in LINES if line.startswith(".venv/bin/camelid")]


@pytest.mark.parametrize("line", CAMELID)
def test_a_camelid_command_is_understood(line: str) -> None:
    words = shlex.split(line.partition("<")[0], comments=True)[1:]
    with_recipes = {"pretrain": pretrain.parse_flags, "distill": distill.parse_flags}
    if words[0] in with_recipes and words[1:] and not words[1].startswith("-"):
        with_recipes[words[0]](words[1], words[2:])
    else:
        parse(words)


def test_there_are_commands_and_every_make_target_exists() -> None:
    assert CAMELID
    targets = {shlex.split(line)[1] for line in LINES if line.startswith("make ")}
    assert targets
    rules = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets <= rules


@pytest.mark.parametrize("block", [block for language, block in BLOCKS if language == "python"])
def test_python_examples_import_what_there_is(block: str) -> None:
    imports = [node for node in ast.parse(block).body if isinstance(node, ast.ImportFrom)]
    for node in imports:
        module = importlib.import_module(node.module or "")
        assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
