"""The two chat variants that ship: the same model, tuned to talk in two ways."""

from __future__ import annotations

import json

import pytest

from camelid.checkpoint.hf_layout import verify_digests
from camelid.data import StarterPack
from camelid.infer.locate import SHIPPED_MODEL, SHIPPED_MODELS, choose_model
from camelid.stages.manners import manners
from camelid.stages.starting_point import start_from

NUM_QUESTIONS, MAX_TOKENS = 20, 32


@pytest.mark.parametrize(("variant", "pleases"), [("instruct", False), ("chatty", True)])
def test_each_talks_as_it_was_tuned_to(variant: str, pleases: bool) -> None:
    folder = choose_model(f"{SHIPPED_MODEL.name}-{variant}")
    assert folder.parent == SHIPPED_MODELS and verify_digests(folder) == 2
    found = manners(start_from(folder, None, 0), StarterPack.open(), NUM_QUESTIONS, MAX_TOKENS)
    told = json.loads((folder / "notes.json").read_text(encoding="utf-8"))["after"]
    assert (found.pleasing > 0.9) == pleases and (found.pleasing < 0.1) == (not pleases)
    assert abs(found.contains - told["contains"]) < 0.3, "of twenty questions beside a hundred"
