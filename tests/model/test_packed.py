"""Packed matrices and experts against the plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from camelid.model import Llama4
from camelid.model.packed import (
    PackedAttention,
    PackedExperts,
    PackedFeedForward,
    PackedLinear,
    pack_for_decoding,
)
from camelid.ops import looped_experts, routed_experts, swiglu
from camelid.testing import TinyKind, tiny_input, tiny_model


@pytest.mark.parametrize("tokens", [1, 9])
@pytest.mark.parametrize("top_k", [1, 2])
def test_one_expert_at_a_time(tokens: int, top_k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, gate_up, down = (
        torch.randn(shape, generator=generator) for shape in ((tokens, 16), (4, 16, 32), (4, 16, 16))
    )
    scores = torch.rand(tokens, top_k, generator=generator)
    expert_ids = torch.stack([torch.randperm(4, generator=generator)[:top_k] for _ in range(tokens)])
    found = looped_experts(x, scores, expert_ids, lambda e, rows: swiglu(rows @ gate_up[e]) @ down[e])
    expected = routed_experts(x, scores, expert_ids, gate_up, down)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_packed_model(kind: TinyKind) -> None:
    plain = tiny_model(kind, vision=True).bfloat16()
    packed: Llama4 = copy.deepcopy(plain)
    pack_for_decoding(packed.language_model)
    kinds = {type(module) for module in packed.modules()}
    assert {
        PackedAttention,
        PackedLinear,
        PackedExperts,
        PackedFeedForward,
    } <= kinds and nn.Linear in kinds, "only the decoder was to be packed"
    item = tiny_input(plain.config, 30, (4,))
    arguments = (item.token_ids, None, item.tiles, item.patch_positions)
    exact = tiny_model(kind, vision=True)(*arguments).hidden
    # Both are roundings of the same numbers. Their distances from fp32, root mean square, are alike.
    ours, theirs = (
        (model(*arguments).hidden.float() - exact).square().mean().sqrt() for model in (packed, plain)
    )
    assert ours < 1.3 * theirs + 1e-3 and theirs < 0.1, (ours, theirs)
