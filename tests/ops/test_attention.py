"""Segments against one dense mask, temperature against the published table."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from camelid.ops import (
    attention_temperature,
    continued_attention,
    dense_segment_attention,
    full_attention,
    plan_segments,
    segment_attention,
    split_lengths,
)

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
TOLERANCE = 1e-5  # fp32; measured: 8.3e-7 forward, 2.6e-6 gradients, of size 5
BF16_TOLERANCE = 0.03  # measured: 0.012 on values up to 3.4, 0.008 of a gradient's length
QKV_DTYPES = (torch.float32, torch.float32, torch.bfloat16)

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def random_qkv(num_tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(num_tokens, heads, HEAD_DIM, generator=generator, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    return q, k, v


@settings(max_examples=25, deadline=None)
@given(lengths)
def test_segments_equal_a_dense_mask(lengths: list[int]) -> None:
    qkv = random_qkv(sum(lengths))
    upstream = torch.randn_like(qkv[0])
    fast = segment_attention(*qkv, plan_segments(lengths))
    slow = dense_segment_attention(*qkv, lengths)
    torch.testing.assert_close(fast, slow, atol=TOLERANCE, rtol=0)
    for ours, twins in zip(
        torch.autograd.grad(fast, qkv, upstream), torch.autograd.grad(slow, qkv, upstream), strict=True
    ):
        torch.testing.assert_close(ours, twins, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("lengths", [[7], [8, 8, 8], [1] * 9, [1, 33], [3, 3, 3, 2], [64, 1, 65, 2, 63]])
def test_shapes_that_plans_treat_apart(lengths: list[int]) -> None:
    qkv = random_qkv(sum(lengths))
    fast = segment_attention(*qkv, plan_segments(lengths))
    torch.testing.assert_close(fast, dense_segment_attention(*qkv, lengths), atol=TOLERANCE, rtol=0)


def test_the_twin_itself_by_hand() -> None:
    """Two tokens, one head: the second sees softmax of two scaled scores, or only itself behind a border."""
    q = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    k = torch.tensor([[[1.0, 1.0]], [[3.0, 0.5]]])
    v = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    weights = torch.tensor([2.0, 1.0]).div(2**0.5).softmax(0)
    together, apart = dense_segment_attention(q, k, v, [2]), dense_segment_attention(q, k, v, [1, 1])
    torch.testing.assert_close(together, torch.stack([v[0], weights[None]]))
    assert torch.equal(apart, v)


def test_query_head_h_reads_kv_head_h_over_group() -> None:
    q, k, v = random_qkv(5)
    out = segment_attention(q, k, v, plan_segments([5]))
    changed = segment_attention(q, k, v + torch.tensor([0.0, 1.0])[:, None], plan_segments([5]))
    is_moved = (changed - out).abs().amax((0, 2)) > 0.5
    assert is_moved.tolist() == [False, False, True, True]


@given(lengths, st.integers(1, 20))
def test_documents_are_cut_into_chunks(lengths: list[int], chunk: int) -> None:
    pieces = list(split_lengths(lengths, chunk))
    for length in lengths:
        while length > 0:
            piece = pieces.pop(0)
            assert piece == min(length, chunk)
            length -= piece
    assert pieces == []


def test_plans_waste_less_than_half() -> None:
    lengths = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233]
    plan = plan_segments(lengths)
    cells = sum(cells.numel() for cells, _ in plan.buckets)
    assert sum(real.numel() for _, real in plan.buckets) == sum(lengths)
    assert cells < 2 * sum(lengths)


@settings(max_examples=25, deadline=None)
@given(lengths, st.data())
def test_continued_attention_equals_the_last_rows(lengths: list[int], data: st.DataObject) -> None:
    num_new = data.draw(st.integers(1, sum(lengths)))
    q, k, v = random_qkv(sum(lengths))
    continued = continued_attention(q[-num_new:], k, v, lengths)
    expected = dense_segment_attention(q, k, v, lengths)[-num_new:]
    torch.testing.assert_close(continued, expected, atol=TOLERANCE, rtol=0)


def test_continued_attention_in_blocks_of_queries() -> None:
    """More new tokens than one block of queries, across a border."""
    q, k, v = random_qkv(1100)
    lengths = [300, 800]
    expected = dense_segment_attention(q, k, v, lengths)[-1050:]
    torch.testing.assert_close(
        continued_attention(q[-1050:], k, v, lengths), expected, atol=TOLERANCE, rtol=0
    )


def test_bf16_is_returned_in_bf16() -> None:
    lengths = [5, 9]
    q, k, v = (x.to(torch.bfloat16) for x in random_qkv(14))
    out = segment_attention(q, k, v, plan_segments(lengths))
    assert out.dtype == torch.bfloat16
    expected = dense_segment_attention(q.float(), k.float(), v.float(), lengths)
    torch.testing.assert_close(out.float(), expected, atol=BF16_TOLERANCE, rtol=0)


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("tokens", [1, 127, 128, 129, 300, 1100])
def test_bf16_equals_fp32_of_the_same_numbers(tokens: int, is_causal: bool) -> None:
    """Values and gradients, with q and k in fp32 as RoPE and norms hand them on, in one and in many blocks."""
    q, k, v = random_qkv(tokens)
    wide = [x.detach().to(torch.bfloat16)[None] for x in (q, k, v)]
    wide = [x.float().requires_grad_() for x in wide]
    narrow = [x.detach().to(dtype).requires_grad_() for x, dtype in zip(wide, QKV_DTYPES, strict=True)]
    out, expected = (full_attention(*qkv, is_causal=is_causal) for qkv in (narrow, wide))
    assert out.dtype == torch.bfloat16 and expected.dtype == torch.float32
    torch.testing.assert_close(out.float(), expected, atol=BF16_TOLERANCE, rtol=0)
    upstream = torch.randn_like(expected).to(torch.bfloat16)
    ours = torch.autograd.grad(out, narrow, upstream)
    exact = torch.autograd.grad(expected, wide, upstream.float())
    for mine, theirs, leaf in zip(ours, exact, narrow, strict=True):
        assert mine.dtype == leaf.dtype
        error = (mine.float() - theirs).norm() / theirs.norm().clamp(min=1e-3)
        assert error < BF16_TOLERANCE


# Positions and factors of released models: floor_scale 8192, attn_scale 0.1 (arXiv 2501.19399, worked out).
PUBLISHED = {
    0: 1.0,
    8190: 1.0,
    8191: 1.069315,
    16383: 1.109861,
    131071: 1.283321,
    262143: 1.349651,
    1048575: 1.485981,
    10485759: 1.715540,
}


def test_temperature_table() -> None:
    factors = attention_temperature(torch.tensor(list(PUBLISHED)), 8192, 0.1)
    assert factors.dtype == torch.float32
    assert factors.tolist() == pytest.approx(list(PUBLISHED.values()), abs=1e-6)
