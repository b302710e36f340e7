"""Log-probabilities of tokens, with a gradient and without ever holding all logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from camelid.train.losses import CHUNK_LOGITS, MIN_CHUNK_ROWS

__all__ = ["plain_token_logprobs", "token_logprobs"]


def token_logprobs(
    hidden: Float[Tensor, "rows hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    target_ids: Int[Tensor, "rows"],
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Each row's ln p(target) in fp32, and the entropy of its whole distribution in nats, which has no gradient.

    Logits are made in pieces, and once more on the way back, so memory does not grow with rows x vocabulary.
    Unlike a cross-entropy, whose gradient is known at once, what follows may weigh every row as it likes.
    Twin: `plain_token_logprobs`.
    """
    logprobs, entropies = _ChunkedLogprobs.apply(hidden, head_weight, target_ids)  # type: ignore[no-untyped-call]
    return logprobs, entropies


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, hidden: Tensor, head_weight: Tensor, target_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden, head_weight, target_ids)
        logprobs = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        entropies = torch.empty_like(logprobs)
        for piece in _pieces(hidden, head_weight):
            all_logprobs = F.linear(hidden[piece], head_weight).float().log_softmax(-1)
            logprobs[piece] = all_logprobs.gather(1, target_ids[piece, None])[:, 0]
            entropies[piece] = torch.special.entr(all_logprobs.exp()).sum(-1)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, head_weight, target_ids = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros_like(head_weight, dtype=torch.float32)
        for piece in _pieces(hidden, head_weight):
            x, weight = hidden[piece], grads[0][piece, None]
            # d ln p(target) / d logits = onehot - p.
            slope = F.linear(x, head_weight).float().softmax(-1).mul_(-weight)
            slope = slope.scatter_add_(1, target_ids[piece, None], weight).to(hidden.dtype)
            grad_hidden[piece] = slope @ head_weight
            grad_head += slope.mT @ x
        return grad_hidden, grad_head.to(head_weight.dtype), None


def _pieces(hidden: Tensor, head_weight: Tensor) -> list[slice]:
    num_rows = max(MIN_CHUNK_ROWS, CHUNK_LOGITS // head_weight.shape[0])
    return [slice(start, start + num_rows) for start in range(0, hidden.shape[0], num_rows)]


def plain_token_logprobs(
    hidden: Float[Tensor, "rows hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    target_ids: Int[Tensor, "rows"],
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """The slow twin of `token_logprobs`: all logits at once, under stock autograd."""
    all_logprobs = F.linear(hidden, head_weight).float().log_softmax(-1)
    entropies = -(all_logprobs.exp() * all_logprobs).sum(-1).detach()
    return all_logprobs.gather(1, target_ids[:, None])[:, 0], entropies
