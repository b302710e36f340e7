"""Decoding with the cache equals one full forward, and chunked layers keep no more than a chunk."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.core.errors import InputError
from camelid.model import KVCache, Llama4
from camelid.model.kv_cache import ChunkedLayerCache, GlobalLayerCache
from camelid.testing.tiny import TinyKind, tiny_input, tiny_model

NUM_TOKENS = 53  # three chunks of 16 and a bit
CHUNK_BYTES = 2 * 16 * 2 * 16 * 4  # keys and values, 16 positions, 2 heads of 16 features, fp32
TOLERANCE = 2e-5  # measured: 2.3e-6 on hidden states of size 4, fp32

STEPS = {
    "ones": [1] * NUM_TOKENS,
    "threes": [3] * 17 + [2],
    "sevens": [7] * 7 + [4],
    "whole chunks": [16] * 3 + [5],
    "one short of every border, then over it": [15, 1, 1, 15, 1, 15, 2, 3],
    "up to a border, then on": [32, 1, 1, 19],
    "across one border": [10, 10, 33],
    "across several borders at once": [5, 40, 1, 7],
    "over a border that ends on one": [20, 28, 1, 4],
    "a long prompt, then ones": [47, 1, 1, 1, 1, 1, 1],
}


def decode(model: Llama4, token_ids: torch.Tensor, steps: list[int]) -> torch.Tensor:
    """Hidden states of all tokens, fed in steps; checks the cache after each."""
    cache = KVCache(model.config.text)
    pieces = []
    for step in steps:
        piece = token_ids[cache.length :][:step]
        pieces.append(model(piece, cache=cache).hidden)
        assert cache.length == sum(map(len, pieces))
        for layer in cache.layers:
            if isinstance(layer, ChunkedLayerCache):
                assert 0 < layer.num_bytes <= CHUNK_BYTES
    assert cache.length == len(token_ids)
    return torch.cat(pieces)


@pytest.mark.parametrize("steps", STEPS.values(), ids=list(STEPS))
@torch.no_grad()
def test_steps_equal_one_forward(model: Llama4, steps: list[int]) -> None:
    token_ids = tiny_input(model.config, NUM_TOKENS).token_ids
    torch.testing.assert_close(
        decode(model, token_ids, steps), model(token_ids).hidden, atol=TOLERANCE, rtol=0
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 37), min_size=1, max_size=8))
@torch.no_grad()
def test_any_steps_equal_one_forward(steps: list[int]) -> None:
    model = tiny_model("dense")
    token_ids = tiny_input(model.config, sum(steps)).token_ids
    torch.testing.assert_close(
        decode(model, token_ids, steps), model(token_ids).hidden, atol=TOLERANCE, rtol=0
    )


@torch.no_grad()
def test_images_may_come_in_any_step(kind: TinyKind) -> None:
    model = tiny_model(kind, vision=True)
    whole = tiny_input(model.config, 40, (3, 14, 30))
    cache = KVCache(model.config.text)
    pieces = []
    for start, end in ((0, 12), (12, 28), (28, 40)):
        is_here = (whole.patch_positions >= start) & (whole.patch_positions < end)
        tiles = whole.tiles[is_here.view(-1, 4).all(1)]
        positions = whole.patch_positions[is_here] - start
        pieces.append(model(whole.token_ids[start:end], None, tiles, positions, cache).hidden)
    expected = model(whole.token_ids, None, whole.tiles, whole.patch_positions).hidden
    torch.testing.assert_close(torch.cat(pieces), expected, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_bytes_held(model: Llama4) -> None:
    """Global layers hold every token, chunked layers the same however long the text."""
    cache, held = KVCache(model.config.text), []
    for _ in range(10):
        model(tiny_input(model.config, 64).token_ids, cache=cache)
        held.append(cache.num_bytes)
    num_global = model.config.text.layer_types.count("global")
    num_chunked = len(cache.layers) - num_global
    assert held[-1] >= num_global * CHUNK_BYTES * 640 // 16 + num_chunked * CHUNK_BYTES
    assert held[-1] <= 2 * num_global * CHUNK_BYTES * 640 // 16 + num_chunked * CHUNK_BYTES
    assert held[-1] == sum(layer.num_bytes for layer in cache.layers)


@torch.no_grad()
def test_a_bf16_model_keeps_bf16() -> None:
    """RoPE answers in fp32; what is kept is in the model's dtype."""
    model = tiny_model("scout").to(torch.bfloat16)
    cache = KVCache(model.config.text)
    hidden = torch.cat([model(tiny_input(model.config, n).token_ids, cache=cache).hidden for n in (5, 1)])
    assert hidden.dtype == torch.bfloat16
    assert {layer.num_bytes for layer in cache.layers if isinstance(layer, ChunkedLayerCache)} == {
        CHUNK_BYTES // 2
    }


def test_what_caches_return() -> None:
    """Known keys first, the new ones last; a chunked cache forgets at the border."""
    rows = torch.arange(10.0)[:, None, None]
    whole, chunked = GlobalLayerCache(), ChunkedLayerCache(4)
    seen = []
    for start, end in ((0, 3), (3, 4), (4, 5), (5, 10)):
        everything, _ = whole.append(rows[start:end], rows[start:end])
        keys, values = chunked.append(rows[start:end], -rows[start:end])
        assert torch.equal(everything, rows[:end])
        assert torch.equal(keys, -values)
        seen.append(keys.flatten().tolist())
    assert seen == [[0, 1, 2], [0, 1, 2, 3], [4], [4, 5, 6, 7, 8, 9]]
    assert chunked.append(rows[:1], rows[:1])[0].flatten().tolist() == [8, 9, 0]


def test_a_cache_holds_one_document() -> None:
    model = tiny_model()
    with pytest.raises(InputError, match="one document, got 2"):
        model(torch.zeros(4, dtype=torch.long), (2, 2), cache=KVCache(model.config.text))
