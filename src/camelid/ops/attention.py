"""Causal attention inside segments of one flat token axis.

A segment is a document (global layers) or a chunk of a document (chunked layers): both are lists of lengths,
so packing, chunking and plain batches share one path and no tokens x tokens mask is ever made. Segments of
similar length are padded together on the right, where causality hides the padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
    "full_attention",
    "plan_segments",
    "segment_attention",
    "side_by_side_attention",
    "split_lengths",
]

QUERY_BLOCK = 512  # queries per step of `continued_attention`: bounds its mask to 512 x keys
BLOCK = 128  # queries per step of `_BlockedAttention`; half of it for segments up to SHORT tokens
SHORT = 512
KEEP_WEIGHTS = 1024  # segments up to this long keep their softmax weights for the backward pass


@dataclass(frozen=True)
class SegmentPlan:
    """How segments are gathered into padded rectangles.

    Each bucket has, for every cell of a [segments, longest] rectangle, the token it shows (`cells`, padding
    repeats a real token), and the flat cells that are real with the tokens they came from. A single bucket that
    is one plain rectangle keeps None instead: then no gathering is needed.
    """

    num_tokens: int
    rectangle: tuple[int, int] | None
    buckets: tuple[tuple[Int[Tensor, "_segments _longest"], Int[Tensor, "_real"]], ...]
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


def full_attention(
    q: Float[Tensor, "segments tokens heads head_dim"],
    k: Float[Tensor, "segments tokens kv_heads head_dim"],
    v: Float[Tensor, "segments tokens kv_heads head_dim"],
    *,
    is_causal: bool = False,
) -> Float[Tensor, "segments tokens heads head_dim"]:
    """softmax(q·k / sqrt(head_dim)) v inside each segment, computed in v's dtype; q and k may be wider."""
    with torch.autocast(v.device.type, enabled=False):
        if v.device.type == "cpu" and v.dtype == torch.bfloat16:
            return _BlockedAttention.apply(q, k, v, is_causal)  # type: ignore[no-any-return, no-untyped-call]
        out = F.scaled_dot_product_attention(
            q.to(v.dtype).transpose(1, 2),
            k.to(v.dtype).transpose(1, 2),
            v.transpose(1, 2),
            is_causal=is_causal,
            enable_gqa=q.shape[2] != k.shape[2],
        )
    return out.transpose(1, 2)


class _BlockedAttention(torch.autograd.Function):
    """Plain bf16 matrix products, one block of queries after the other, up to the last key that it may see.

    Stock attention on a CPU multiplies in fp32 whatever it is given: on 8 x 512 tokens forward and backward take
    2.5 times as long as this in fp32, and 5 times in bf16. Rows are (token, head of the group) and the batch is
    (segment, kv head), so that grouped queries need no copies of keys.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, q: Tensor, k: Tensor, v: Tensor, is_causal: bool
    ) -> Tensor:
        segments, tokens, heads, head_dim = q.shape
        kv_heads, dtype = k.shape[2], v.dtype
        rows = _by_kv_head((q * head_dim**-0.5).to(dtype), kv_heads)
        keys, values = _by_kv_head(k.to(dtype), kv_heads), _by_kv_head(v, kv_heads)
        future = _future(rows, tokens) if is_causal else None
        out = torch.empty_like(rows)
        kept = []
        for low, high, seen in _blocks(tokens, is_causal):
            block = slice(low * heads // kv_heads, high * heads // kv_heads)
            weights = _block_weights(rows[:, block], keys[:, :seen], high - low, future)
            out[:, block] = torch.bmm(weights, values[:, :seen])
            if tokens <= KEEP_WEIGHTS:
                kept.append(weights)
        ctx.save_for_backward(rows, keys, values, *kept)
        ctx.is_causal, ctx.dtypes, ctx.shape = is_causal, (q.dtype, k.dtype), q.shape  # type: ignore[attr-defined]
        return _by_token(out, segments, heads)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, keys, values, *kept = ctx.saved_tensors  # type: ignore[attr-defined]
        segments, tokens, heads, head_dim = ctx.shape  # type: ignore[attr-defined]
        q_dtype, k_dtype = ctx.dtypes  # type: ignore[attr-defined]
        is_causal: bool = ctx.is_causal  # type: ignore[attr-defined]
        kv_heads = keys.shape[0] // segments
        future = _future(rows, tokens) if is_causal and not kept else None
        grad_out = _by_kv_head(grads[0], kv_heads)
        grad_q, grad_k, grad_v = torch.empty_like(rows), torch.zeros_like(keys), torch.zeros_like(values)
        for index, (low, high, seen) in enumerate(_blocks(tokens, is_causal)):
            block = slice(low * heads // kv_heads, high * heads // kv_heads)
            weights = (
                kept[index] if kept else _block_weights(rows[:, block], keys[:, :seen], high - low, future)
            )
            grad_weights = torch.bmm(grad_out[:, block], values[:, :seen].mT)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q[:, block] = torch.bmm(grad_scores, keys[:, :seen])
            grad_k[:, :seen] += torch.bmm(grad_scores.mT, rows[:, block])
            grad_v[:, :seen] += torch.bmm(weights.mT, grad_out[:, block])
        return (
            (_by_token(grad_q, segments, heads) * head_dim**-0.5).to(q_dtype),
            _by_token(grad_k, segments, kv_heads).to(k_dtype),
            _by_token(grad_v, segments, kv_heads),
            None,
        )


def _by_kv_head(x: Tensor, kv_heads: int) -> Tensor:
    """[segments tokens heads head_dim] to [segments·kv_heads, tokens·group, head_dim]."""
    group = x.shape[2] // kv_heads
    grouped: Tensor = x.unflatten(2, (kv_heads, group))
    return grouped.transpose(1, 2).reshape(-1, x.shape[1] * group, x.shape[3])


def _by_token(rows: Tensor, segments: int, heads: int) -> Tensor:
    """The inverse of `_by_kv_head`."""
    kv_heads, head_dim = rows.shape[0] // segments, rows.shape[2]
    grouped = rows.view(segments, kv_heads, -1, heads // kv_heads, head_dim)
    return grouped.transpose(1, 2).reshape(segments, -1, heads, head_dim)


def _blocks(tokens: int, is_causal: bool) -> Iterator[tuple[int, int, int]]:
    """First and last query (exclusive) of each block, and how many keys it sees."""
    size = _block_size(tokens)
    for low in range(0, tokens, size):
        high = min(low + size, tokens)
        yield low, high, high if is_causal else tokens


def _block_size(tokens: int) -> int:
    return min(tokens, BLOCK // 2 if tokens <= SHORT else BLOCK)


def _future(like: Tensor, tokens: int) -> Tensor:
    """What is added to the scores of a block's queries with the block's own keys: -inf above the diagonal."""
    size = _block_size(tokens)
    return like.new_full((size, size), -torch.inf).triu_(1)


def _block_weights(rows: Tensor, keys: Tensor, queries: int, future: Tensor | None) -> Tensor:
    """Softmax weights of a block of `queries`, whose own keys are the last ones; without `future` all are seen."""
    scores = torch.bmm(rows, keys.mT)
    if future is not None:
        own = scores[..., -queries:].unflatten(1, (queries, -1))
        own.add_(future[:queries, None, :queries])
    return scores.softmax(-1)


def segment_attention(
    q: Float[Tensor, "tokens heads head_dim"],
    k: Float[Tensor, "tokens kv_heads head_dim"],
    v: Float[Tensor, "tokens kv_heads head_dim"],
    plan: SegmentPlan,
) -> Float[Tensor, "tokens heads head_dim"]:
    """softmax(q·k / sqrt(head_dim)) over earlier tokens of the same segment. Twin: `dense_segment_attention`."""
    if plan.rectangle is not None:
        q, k, v = (x.unflatten(0, plan.rectangle) for x in (q, k, v))
        return full_attention(q, k, v, is_causal=True).flatten(0, 1)
    assert plan.order is not None
    outputs = [
        full_attention(q[cells], k[cells], v[cells], is_causal=True).flatten(0, 1).index_select(0, real)
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
            outputs.append(_last_queries(q[low - first_new : high - first_new], k[start:high], v[start:high]))
        start = end
    return torch.cat(outputs)


def side_by_side_attention(
    q: Float[Tensor, "rows heads head_dim"],
    k: Float[Tensor, "rows longest kv_heads head_dim"],
    v: Float[Tensor, "rows longest kv_heads head_dim"],
    lengths: Sequence[int],
) -> Float[Tensor, "rows heads head_dim"]:
    """Attention of one token a row to the first `lengths[row]` keys of its row; behind them must be finite numbers."""
    is_known = torch.arange(k.shape[1], device=q.device) < torch.tensor(lengths, device=q.device)[:, None]
    kv_heads = k.shape[2]
    out: Tensor = F.scaled_dot_product_attention(
        q.to(v.dtype).unflatten(1, (kv_heads, -1)),  # as in `_last_queries`
        k.to(v.dtype).transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=is_known[:, None, None],
    )
    return out.flatten(1, 2)


def _last_queries(
    q: Float[Tensor, "new heads head_dim"],
    k: Float[Tensor, "known kv_heads head_dim"],
    v: Float[Tensor, "known kv_heads head_dim"],
) -> Float[Tensor, "new heads head_dim"]:
    new, heads, head_dim = q.shape
    known, kv_heads, _ = k.shape
    q, k = q.to(v.dtype), k.to(v.dtype)
    if new == known:
        return full_attention(q[None], k[None], v[None], is_causal=True)[0]
    # The queries of a group become rows: stock GQA decoding on CPU is several times slower.
    rows = q.view(new, kv_heads, heads // kv_heads, head_dim).permute(1, 2, 0, 3).flatten(1, 2)
    may_attend = torch.ones(new, known, dtype=torch.bool, device=q.device).tril(known - new)
    out = F.scaled_dot_product_attention(
        rows[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        attn_mask=may_attend.repeat(heads // kv_heads, 1) if new > 1 else None,
    )[0]
    grouped: Tensor = out.unflatten(1, (heads // kv_heads, new))
    return grouped.permute(2, 0, 1, 3).flatten(1, 2)


def attention_temperature(
    positions: Int[Tensor, "tokens"], floor_scale: int, attn_scale: float
) -> Float[Tensor, "tokens"]:
    """1 + attn_scale · ln(floor((p + 1) / floor_scale) + 1), fp32, for 0-based p (arXiv 2501.19399)."""
    return 1 + attn_scale * torch.log1p(((positions + 1) // floor_scale).float())
