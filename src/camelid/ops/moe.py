"""Sparse experts: sort tokens by expert, two grouped matmuls, put them back. Nothing is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["LowRank", "dense_experts", "looped_experts", "routed_experts", "swiglu"]

# Every expert's rows are padded to a multiple of this. oneDNN compiles a kernel for each size it has not met, and
# sizes of routed groups never repeat: without it, nano experts took 3 times as long.
ROW_MULTIPLE = 8


class LowRank(NamedTuple):
    """What is added to every expert's matrix: a_e @ b_e."""

    a: Float[Tensor, "experts in rank"]
    b: Float[Tensor, "experts rank out"]


def swiglu(gate_up: Float[Tensor, "*rows double"]) -> Float[Tensor, "*rows half"]:
    """silu(gate) * up, where gate is the first half of the features and up the second."""
    if not torch.is_grad_enabled():
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)
    return _SwiGLU.apply(gate_up)  # type: ignore[no-any-return, no-untyped-call]


class _SwiGLU(torch.autograd.Function):
    """Keeps only its input for the backward pass: stock autograd would keep silu(gate) and both halves."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (grad,) = grads
        gate, up = gate_up.chunk(2, -1)
        out = torch.empty_like(gate_up)
        grad_gate, grad_up = out.chunk(2, -1)
        torch.mul(grad, F.silu(gate), out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
        return out


def routed_experts(
    x: Float[Tensor, "tokens hidden"],
    scores: Float[Tensor, "tokens top_k"],
    expert_ids: Int[Tensor, "tokens top_k"],
    gate_up_proj: Float[Tensor, "experts hidden double_ffn"],
    down_proj: Float[Tensor, "experts ffn hidden"],
    gate_up_low: LowRank | None = None,
    down_low: LowRank | None = None,
) -> Float[Tensor, "tokens hidden"]:
    """Sum over a token's experts e of Expert_e(score_e · x): the score scales the *input*, as in Llama 4.

    Twin: `dense_experts`.
    """
    num_tokens, top_k = expert_ids.shape
    flat_ids = expert_ids.flatten()
    order = flat_ids.argsort(stable=True)
    counts = torch.bincount(flat_ids, minlength=gate_up_proj.shape[0])
    padded = (counts + ROW_MULTIPLE - 1) // ROW_MULTIPLE * ROW_MULTIPLE
    ends = padded.cumsum(0)
    # Sorted choices move down by the padding of the experts before theirs.
    shift = (ends - padded) - (counts.cumsum(0) - counts)
    places = torch.arange(order.shape[0], device=order.device) + shift[flat_ids[order]]
    # Padding shows the first choice again; nothing reads its result, so its gradient is zero.
    shown = order.new_zeros(int(ends[-1])).index_copy_(0, places, order)
    back = torch.empty_like(order).index_copy_(0, order, places)
    ends = ends.to(torch.int32)
    scaled = (x[:, None] * scores[..., None]).flatten(0, 1) if top_k > 1 else x * scores
    rows = _grouped(scaled.index_select(0, shown), gate_up_proj, gate_up_low, ends)
    rows = _grouped(swiglu(rows), down_proj, down_low, ends)
    out = rows.index_select(0, back)
    return out.unflatten(0, (num_tokens, top_k)).sum(1) if top_k > 1 else out


def _grouped(
    rows: Float[Tensor, "rows in"],
    weight: Float[Tensor, "experts in out"],
    low: LowRank | None,
    ends: Int[Tensor, "experts"],
) -> Float[Tensor, "rows out"]:
    out: Tensor = F.grouped_mm(rows, weight, offs=ends)
    return out if low is None else out + F.grouped_mm(F.grouped_mm(rows, low.a, offs=ends), low.b, offs=ends)


def dense_experts(
    x: Float[Tensor, "tokens hidden"],
    scores: Float[Tensor, "tokens top_k"],
    expert_ids: Int[Tensor, "tokens top_k"],
    gate_up_proj: Float[Tensor, "experts hidden double_ffn"],
    down_proj: Float[Tensor, "experts ffn hidden"],
) -> Float[Tensor, "tokens hidden"]:
    """The slow twin of `routed_experts`: every expert on every token, masked by score."""
    out = torch.zeros_like(x)
    for expert, (gate_up, down) in enumerate(zip(gate_up_proj.unbind(0), down_proj.unbind(0), strict=True)):
        for choice in range(expert_ids.shape[1]):
            gate, up = ((x * scores[:, choice, None]) @ gate_up).chunk(2, -1)
            is_chosen = (expert_ids[:, choice] == expert)[:, None]
            out = out + torch.where(is_chosen, (F.silu(gate) * up) @ down, 0)
    return out


def looped_experts(
    x: Float[Tensor, "tokens hidden"],
    scores: Float[Tensor, "tokens top_k"],
    expert_ids: Int[Tensor, "tokens top_k"],
    expert: Callable[[int, Tensor], Tensor],
) -> Float[Tensor, "tokens hidden"]:
    """`routed_experts` for experts that are not one tensor: `expert(e, rows)` is asked once for each e chosen.

    For inference: on disk or packed, an expert comes alone. Its twin is `routed_experts`.
    """
    if (
        x.shape[0] == 1 and expert_ids.shape[1] == 1
    ):  # one token of a decode step: nothing to gather or scatter
        return expert(int(expert_ids), x * scores)
    out = torch.zeros_like(x)
    for chosen in expert_ids.unique().tolist():
        rows, slots = (expert_ids == chosen).nonzero(as_tuple=True)
        out.index_add_(0, rows, expert(chosen, x[rows] * scores[rows, slots, None]))
    return out
