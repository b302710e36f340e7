"""Cross-entropy that never holds all logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["cross_entropy_sum", "plain_cross_entropy"]

# Logits per piece: 16 MB of them in fp32, up to vocabularies of 16k.
CHUNK_LOGITS = 2**22
MIN_CHUNK_ROWS = 256


def cross_entropy_sum(
    hidden: Float[Tensor, "tokens hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    target_ids: Int[Tensor, "tokens"],
    loss_weights: Float[Tensor, "tokens"],
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens"]]:
    """The weighted sum of -ln p(target), and every token's own unweighted value (0 where the weight is 0).

    Rows of weight 0, such as prompts and patch tokens, never meet the head. The rest goes through in pieces
    whose gradients are made at once, so memory does not grow with tokens x vocabulary. `dtype` is that of the
    matmuls (default: hidden's). Twin: `plain_cross_entropy`.

    Not `F.linear_cross_entropy`: its chunked path has no weights per token and returns no loss per token.
    """
    rows = loss_weights.nonzero()[:, 0]
    compute_dtype = dtype or hidden.dtype
    total, per_row = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.index_select(0, rows), head_weight, target_ids[rows], loss_weights[rows], compute_dtype
    )
    return total, torch.zeros_like(loss_weights).index_copy(0, rows, per_row)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: Tensor,
        head_weight: Tensor,
        target_ids: Tensor,
        loss_weights: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        head = head_weight.to(dtype)
        needs_grad = hidden.requires_grad or head_weight.requires_grad
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        grad_head = torch.zeros_like(head_weight, dtype=torch.float32) if needs_grad else None
        per_row = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        num_rows = max(MIN_CHUNK_ROWS, CHUNK_LOGITS // head_weight.shape[0])
        for start in range(0, hidden.shape[0], num_rows):
            piece = slice(start, start + num_rows)
            x = hidden[piece].to(dtype)
            log_probs = F.linear(x, head).float().log_softmax(-1)
            picked = target_ids[piece, None]
            per_row[piece] = -log_probs.gather(1, picked)[:, 0]
            if grad_hidden is not None and grad_head is not None:
                # d(-ln p)/d logits = p - onehot, in place of the log-probabilities.
                minus_one = torch.full_like(picked, -1, dtype=torch.float32)
                slope = log_probs.exp_().scatter_add_(1, picked, minus_one)
                slope = slope.mul_(loss_weights[piece, None]).to(dtype)
                grad_hidden[piece] = (slope @ head).to(hidden.dtype)
                grad_head += slope.mT @ x
        if grad_hidden is not None and grad_head is not None:
            ctx.save_for_backward(grad_hidden, grad_head.to(head_weight.dtype))
        ctx.mark_non_differentiable(per_row)
        return (per_row * loss_weights).sum(), per_row

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden, grad_head = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = grads[0]
        return (
            grad_hidden * scale.to(grad_hidden.dtype),
            grad_head * scale.to(grad_head.dtype),
            None,
            None,
            None,
        )


def plain_cross_entropy(
    hidden: Float[Tensor, "tokens hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    target_ids: Int[Tensor, "tokens"],
    loss_weights: Float[Tensor, "tokens"],
) -> Float[Tensor, ""]:
    """The slow twin of `cross_entropy_sum`: all logits at once, under stock autograd."""
    losses = F.cross_entropy(F.linear(hidden, head_weight).float(), target_ids, reduction="none")
    return (losses * loss_weights).sum()
