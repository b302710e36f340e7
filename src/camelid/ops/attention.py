"""Causal attention inside segments of one flat token axis.

A segment is a document (global layers) or a chunk of a document (chunked layers): both are lists of lengths,
so packing, chunking and plain batches share one path and no tokens x tokens mask is ever made. Segments of
similar length are padded together on the right, where causality hides the padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "SegmentPlan",
    "attention_temperature",
    "continued_attention",
    "dense_segment_attention",
    "plan_segments",
    "segment_attention",
    "split_lengths",
]

QUERY_BLOCK = 512  # queries per step of `continued_attention`: bounds its mask to 512 x keys


@dataclass(frozen=True)
class SegmentPlan:
    """How segments are gathered into padded rectangles.

    Each bucket has, for every cell of a [segments, longest] rectangle, the token it shows (`cells`, padding
    repeats a real token), and the flat cells that are real with the tokens they came from. A single bucket that
    is one plain rectangle keeps None instead: then no gathering is needed.
    """

    num_tokens: int
    rectangle: tuple[int, int] | None
    buckets: tuple[tuple[Int[Tensor, "segments longest"], Int[Tensor, "real"]], ...]
    order: Int[Tensor, "tokens"] | None


def split_lengths(lengths: Sequence[int], chunk_size: int) -> tuple[int, ...]:
    """Cuts every document into chunks: (5, 2) by 4 gives (4, 1, 2)."""
    return tuple(
        min(chunk_size, length - start) for length in lengths for start in range(0, length, chunk_size)
    )


def plan_segments(lengths: Sequence[int], device: torch.device | None = None) -> SegmentPlan:
    """Groups segments by the next power of two of their length, so that padding stays under half."""
    total = sum(lengths)
    if len(set(lengths)) == 1:
        return SegmentPlan(total, (len(lengths), lengths[0]), (), None)
    groups: dict[int, list[tuple[int, int]]] = {}
    start = 0
    for length in lengths:
        groups.setdefault((length - 1).bit_length(), []).append((start, length))
        start += length
    buckets, order = [], []
    for group in groups.values():
        starts = torch.tensor([s for s, _ in group])
        sizes = torch.tensor([n for _, n in group])
        offsets = torch.arange(int(sizes.max()))
        cells = starts[:, None] + offsets.minimum(sizes[:, None] - 1)
        is_real = offsets < sizes[:, None]
        buckets.append((cells.to(device), is_real.flatten().nonzero()[:, 0].to(device)))
        order.append(cells[is_real])
    # Where each token landed in the concatenation of all buckets: the way back is one more gather.
    landed = torch.cat(order)
    back = torch.empty_like(landed)
    back[landed] = torch.arange(total)
    return SegmentPlan(total, None, tuple(buckets), back.to(device))


def _causal(
    q: Float[Tensor, "segments tokens heads head_dim"],
    k: Float[Tensor, "segments tokens kv_heads head_dim"],
    v: Float[Tensor, "segments tokens kv_heads head_dim"],
) -> Float[Tensor, "segments tokens heads head_dim"]:
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
    )
    return out.transpose(1, 2)


def segment_attention(
    q: Float[Tensor, "tokens heads head_dim"],
    k: Float[Tensor, "tokens kv_heads head_dim"],
    v: Float[Tensor, "tokens kv_heads head_dim"],
    plan: SegmentPlan,
) -> Float[Tensor, "tokens heads head_dim"]:
    """softmax(q·k / sqrt(head_dim)) over earlier tokens of the same segment. Twin: `dense_segment_attention`."""
    if plan.rectangle is not None:
        q, k, v = (x.unflatten(0, plan.rectangle) for x in (q, k, v))
        return _causal(q, k, v).flatten(0, 1)
    assert plan.order is not None
    outputs = [
        _causal(q[cells], k[cells], v[cells]).flatten(0, 1).index_select(0, real)
        for cells, real in plan.buckets
    ]
    return torch.cat(outputs).index_select(0, plan.order)


def dense_segment_attention(
    q: Float[Tensor, "tokens heads head_dim"],
    k: Float[Tensor, "tokens kv_heads head_dim"],
    v: Float[Tensor, "tokens kv_heads head_dim"],
    lengths: Sequence[int],
) -> Float[Tensor, "tokens heads head_dim"]:
    """The slow twin of `segment_attention`: one mask over all pairs of tokens."""
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    may_attend = (ids[:, None] == ids[None, :]).tril()
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~may_attend, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v)


def continued_attention(
    q: Float[Tensor, "new heads head_dim"],
    k: Float[Tensor, "known kv_heads head_dim"],
    v: Float[Tensor, "known kv_heads head_dim"],
    lengths: Sequence[int],
) -> Float[Tensor, "new heads head_dim"]:
    """Attention of the last `new` of `known` tokens, causal inside segments whose `lengths` sum to `known`."""
    first_new = k.shape[0] - q.shape[0]
    outputs = []
    start = 0
    for length in lengths:
        end = start + length
        for low in range(max(start, first_new), end, QUERY_BLOCK):
            high = min(low + QUERY_BLOCK, end)
            outputs.append(
                _last_queries(q[low - first_new : high - first_new], k[start:high], v[start:high])
            )
        start = end
    return torch.cat(outputs)


def _last_queries(
    q: Float[Tensor, "new heads head_dim"],
    k: Float[Tensor, "known kv_heads head_dim"],
    v: Float[Tensor, "known kv_heads head_dim"],
) -> Float[Tensor, "new heads head_dim"]:
    new, heads, head_dim = q.shape
    known, kv_heads, _ = k.shape
    if new == known:
        return _causal(q[None], k[None], v[None])[0]
    # The queries of a group become rows: stock GQA decoding on CPU is several times slower.
    rows = q.view(new, kv_heads, heads // kv_heads, head_dim).permute(1, 2, 0, 3).flatten(1, 2)
    may_attend = torch.ones(new, known, dtype=torch.bool, device=q.device).tril(known - new)
    out = F.scaled_dot_product_attention(
        rows[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        attn_mask=may_attend.repeat(heads // kv_heads, 1) if new > 1 else None,
    )[0]
    return out.unflatten(1, (heads // kv_heads, new)).permute(2, 0, 1, 3).flatten(1, 2)


def attention_temperature(
    positions: Int[Tensor, "tokens"], floor_scale: int, attn_scale: float
) -> Float[Tensor, "tokens"]:
    """1 + attn_scale · ln(floor((p + 1) / floor_scale) + 1), fp32, for 0-based p (arXiv 2501.19399)."""
    return 1 + attn_scale * torch.log1p(((positions + 1) // floor_scale).float())
