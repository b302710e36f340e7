"""Vocabularies for the tests of this room, and a way to run single functions of packages not imported."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camelid.inputs import ChatFormat, Tokenizer


@pytest.fixture(scope="session")
def meta_dir() -> Path:
    """The Llama 4 folder of Meta's llama-models package (a test dependency), which is never imported."""
    spec = importlib.util.find_spec("llama_models")
    assert spec and spec.submodule_search_locations, "install llama-models: it carries Llama 4's tokenizer"
    return Path(spec.submodule_search_locations[0]) / "llama4"


@pytest.fixture(scope="session")
def meta_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Llama 4's real vocabulary, from the file that CAMELID_LLAMA_TOKENIZER names or from Meta's package."""
    named = os.environ.get("CAMELID_LLAMA_TOKENIZER")
    return Tokenizer.from_file(Path(named or request.getfixturevalue("meta_dir") / "tokenizer.model"))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """256 bytes, a few merges, 128 specials: the shape of a nano model's vocabulary."""
    ranks = {bytes([value]): value for value in range(256)}
    for token in (b"\n\n", b"us", b"er", b"user", b"th", b" th", b" the"):
        ranks[token] = len(ranks)
    return Tokenizer(ranks, num_special_tokens=128)


@pytest.fixture
def chat_format(tokenizer: Tokenizer) -> ChatFormat:
    """Tiles of 8 x 8 pixels, 4 patch tokens each, at most 4 of them."""
    return ChatFormat(tokenizer, tile_size=8, patch_tokens_per_tile=4, max_tiles=4, max_frames=3)


@pytest.fixture(scope="session")
def definitions_from() -> Callable[..., dict[str, Any]]:
    """Runs the named top-level definitions of a Python file, without the imports that the file makes."""

    def run(path: Path, *names: str, **given: Any) -> dict[str, Any]:
        def is_named(node: ast.stmt) -> bool:
            if isinstance(node, ast.Assign):
                return any(isinstance(target, ast.Name) and target.id in names for target in node.targets)
            return isinstance(node, ast.FunctionDef) and node.name in names

        chosen = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if is_named(node)]
        assert len(chosen) == len(names), f"{path} no longer defines all of {names}"
        exec(compile(ast.Module(chosen, type_ignores=[]), str(path), "exec"), given)
        return given

    return run
