"""Sparse experts: sort tokens by expert, two grouped matmuls, put them back. Nothing is dropped."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["dense_experts", "routed_experts", "swiglu"]


def swiglu(gate_up: Float[Tensor, "*rows double"]) -> Float[Tensor, "*rows half"]:
    """silu(gate) * up, where gate is the first half of the features and up the second."""
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
) -> Float[Tensor, "tokens hidden"]:
    """Sum over a token's experts e of Expert_e(score_e · x): the score scales the *input*, as in Llama 4.

    Twin: `dense_experts`.
    """
    num_tokens, top_k = expert_ids.shape
    flat_ids = expert_ids.flatten()
    order = flat_ids.argsort(stable=True)
    ends = torch.bincount(flat_ids, minlength=gate_up_proj.shape[0]).cumsum(0).to(torch.int32)
    scaled = (x[:, None] * scores[..., None]).flatten(0, 1) if top_k > 1 else x * scores
    rows: Tensor = F.grouped_mm(scaled.index_select(0, order), gate_up_proj, offs=ends)
    rows = F.grouped_mm(swiglu(rows), down_proj, offs=ends)
    back = torch.empty_like(order)
    back[order] = torch.arange(order.shape[0], device=order.device)
    out = rows.index_select(0, back)
    return out.unflatten(0, (num_tokens, top_k)).sum(1) if top_k > 1 else out


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
