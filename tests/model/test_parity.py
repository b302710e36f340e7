"""Logits, gradients and greedy answers against transformers, on weights that it loads from our files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, get_args

import pytest
import torch
from torch import Tensor
from transformers import Llama4ForCausalLM, Llama4ForConditionalGeneration
from transformers.utils import logging

from camelid.checkpoint import save_model
from camelid.core import ModelInput
from camelid.model import KVCache, Llama4
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, TinyKind, tiny_input, tiny_model

TOLERANCE = 2e-5  # fp32; measured: 7.4e-6 on logits of size 5. What we promise is 1e-4.
GRADIENT_TOLERANCE = 3e-5  # relative to a parameter's largest gradient; measured: 4.1e-6

# Chunks are 16 tokens and temperature steps 8; an image is 4 patch tokens.
INPUTS = {
    "one token": (1, ()),
    "text within a chunk": (13, ()),
    "text over several chunks": (71, ()),
    "an image": (40, (5,)),
    "an image across a border": (40, (14,)),
    "several images, two of them adjacent": (75, (0, 4, 30, 62)),
}


class Pair(NamedTuple):
    ours: Llama4
    theirs: Llama4ForConditionalGeneration


@pytest.fixture(scope="module", params=get_args(TinyKind))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    logging.disable_progress_bar()
    directory: Path = tmp_path_factory.mktemp(request.param)
    ours = tiny_model(request.param, vision=True)
    save_model(ours, directory, torch.float32, NUM_SPECIAL_TOKENS)
    theirs = Llama4ForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    return Pair(ours, theirs.eval())


def our_logits(model: Llama4, item: ModelInput) -> Tensor:
    return model.logits(model(item.token_ids, None, item.tiles, item.patch_positions).hidden)


def their_inputs(item: ModelInput) -> dict[str, Tensor]:
    inputs = {"input_ids": item.token_ids[None], "attention_mask": torch.ones(1, len(item), dtype=torch.long)}
    if item.tiles.shape[0]:
        inputs["pixel_values"] = (item.tiles / 255 - 0.5) / 0.5
    return inputs


@pytest.mark.parametrize("name", INPUTS)
@torch.no_grad()
def test_logits(pair: Pair, name: str) -> None:
    num_tokens, tile_starts = INPUTS[name]
    item = tiny_input(pair.ours.config, num_tokens, tile_starts)
    expected = pair.theirs(**their_inputs(item)).logits[0]
    error = (our_logits(pair.ours, item) - expected).abs().max()
    assert expected.abs().max() > 1, "logits too small to compare"
    assert error <= TOLERANCE


@torch.no_grad()
def test_logits_of_absolute_positions(pair: Pair) -> None:
    """The references' rounding and ours are the same this early."""
    absolute = Llama4(pair.ours.config, absolute_positions=True)
    absolute.load_state_dict(pair.ours.state_dict())
    item = tiny_input(pair.ours.config, 100, (40,))
    expected = pair.theirs(**their_inputs(item)).logits[0]
    torch.testing.assert_close(our_logits(absolute, item), expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(
        our_logits(absolute, item), our_logits(pair.ours, item), atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("kind", get_args(TinyKind))
@torch.no_grad()
def test_logits_of_a_text_only_model(kind: TinyKind, tmp_path: Path) -> None:
    logging.disable_progress_bar()
    ours = tiny_model(kind)
    save_model(ours, tmp_path, torch.float32, NUM_SPECIAL_TOKENS)
    theirs = Llama4ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    item = tiny_input(ours.config, 50)
    expected = theirs.eval()(item.token_ids[None]).logits[0]
    torch.testing.assert_close(our_logits(ours, item), expected, atol=TOLERANCE, rtol=0)


def test_gradients(pair: Pair) -> None:
    """Of every parameter, through experts, router, attention, vision and fusion."""
    item = tiny_input(pair.ours.config, 45, (3, 14))
    ours, theirs = our_logits(pair.ours, item), pair.theirs(**their_inputs(item)).logits[0]
    upstream = torch.randn_like(ours) / 45
    pair.ours.zero_grad()
    pair.theirs.zero_grad()
    ours.backward(upstream)
    theirs.backward(upstream)
    expected = dict(pair.theirs.named_parameters())
    for name, parameter in pair.ours.named_parameters():
        assert parameter.grad is not None, name
        wanted = expected[name].grad
        error = (parameter.grad - wanted).abs().max() / wanted.abs().max()
        assert error <= GRADIENT_TOLERANCE, f"{name}: {error:.1e}"


@pytest.mark.parametrize("tile_starts", [(), (2,)], ids=["text", "image"])
@torch.no_grad()
def test_greedy_answers(pair: Pair, tile_starts: tuple[int, ...]) -> None:
    """Twenty tokens from a prompt of ten, so that decoding crosses a border."""
    item = tiny_input(pair.ours.config, 10, tile_starts)
    pair.theirs.generation_config.eos_token_id = None
    answer = pair.theirs.generate(**their_inputs(item), max_new_tokens=20, do_sample=False)[0, 10:]

    cache = KVCache(pair.ours.config.text)
    hidden = pair.ours(item.token_ids, None, item.tiles, item.patch_positions, cache).hidden
    said = []
    for _ in range(20):
        said.append(int(pair.ours.logits(hidden[-1]).argmax()))
        hidden = pair.ours(torch.tensor(said[-1:]), cache=cache).hidden
    assert said == answer.tolist()
    assert len(set(said)) > 3, "an answer that repeats itself shows little"
