"""Tiny members of the herd; a seed, and shape checks that begin anew with each test."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

import shape_checks
from camelid.model import Llama4, Llama4Config
from camelid.testing.tiny import TinyKind, tiny_config, tiny_model
from smollm2 import fetch_smollm2


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(0)
    shape_checks.begin_test()


@pytest.fixture(params=get_args(TinyKind))
def kind(request: pytest.FixtureRequest) -> TinyKind:
    """Each kind of tiny model in turn."""
    chosen: TinyKind = request.param
    return chosen


@pytest.fixture
def config(kind: TinyKind) -> Llama4Config:
    """A text-only config of that kind."""
    return tiny_config(kind)


@pytest.fixture
def model(kind: TinyKind) -> Llama4:
    """A text-only model of that kind."""
    return tiny_model(kind)


@pytest.fixture(scope="session")
def smollm2_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real small language model, 135 million weights, as a GGUF file."""
    return fetch_smollm2(tmp_path_factory.mktemp("smollm2"))
