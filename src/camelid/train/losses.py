"""Cross-entropy against hard targets, a teacher's draws or both, that never holds all logits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "SparseLoss",
    "SparseTargets",
    "cross_entropy_sum",
    "plain_cross_entropy",
    "plain_sparse_target_cross_entropy",
    "sparse_target_cross_entropy",
]

# Logits per piece: 16 MB of them in fp32, up to vocabularies of 16k.
CHUNK_LOGITS = 2**22
MIN_CHUNK_ROWS = 256


@dataclass(frozen=True)
class SparseTargets:
    """Distributions over few ids, for every token whose loss weight is above 0, in order.

    Entries `offsets[i]` to `offsets[i + 1]` belong to the i-th such token. Its ids differ from each other and its
    shares sum to 1; a token without entries has a hard target only.
    """

    ids: Int[Tensor, "entries"]
    shares: Float[Tensor, "entries"]
    offsets: Int[Tensor, "borders"]


@dataclass(frozen=True)
class SparseLoss:
    """`total` is what is to become smaller; `hard` and `soft` are every token's own, unweighted, without gradient.

    `hard` is -ln p(target), `soft` the cross-entropy against the token's distribution; both are 0 where the loss
    weight is, and `soft` also where a token has no entries.
    """

    total: Float[Tensor, ""]
    hard: Float[Tensor, "tokens"]
    soft: Float[Tensor, "tokens"]


def sparse_target_cross_entropy(
    hidden: Float[Tensor, "tokens hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    target_ids: Int[Tensor, "tokens"],
    loss_weights: Float[Tensor, "tokens"],
    targets: SparseTargets | None = None,
    soft_weights: Float[Tensor, "tokens"] | None = None,
    dtype: torch.dtype | None = None,
) -> SparseLoss:
    """The weighted sum over tokens of (1 - a) · hard + a · soft, with a from `soft_weights` (0..1).

    That is one cross-entropy against t = (1 - a) · onehot + a · shares, so hard, soft and mixed targets are one
    case: lse(z) - Σ t_j z_j, with the gradient softmax(z) - t. Rows of weight 0, such as prompts and patch tokens,
    never meet the head. The rest goes through in pieces whose gradients are made at once, so memory does not grow
    with tokens x vocabulary. `dtype` is that of the matmuls (default: hidden's). Twin:
    `plain_sparse_target_cross_entropy`.

    Not `F.linear_cross_entropy`: its chunked path has no weights per token, returns no loss per token, and falls
    back to all logits for targets that are no ids.
    """
    assert (targets is None) == (soft_weights is None), "targets and their weights come together"
    rows = loss_weights.nonzero()[:, 0]
    soft_rows, ids, shares = _entries(targets, rows)
    mixing = torch.zeros_like(loss_weights[rows]) if soft_weights is None else soft_weights[rows]
    if targets is not None:
        mixing = mixing * (
            targets.offsets.diff() > 0
        )  # a token without entries learns all from its hard target
    total, hard, soft = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.index_select(0, rows),
        head_weight,
        target_ids[rows],
        loss_weights[rows],
        mixing,
        (soft_rows, ids, shares),
        dtype or hidden.dtype,
    )
    nothing = torch.zeros_like(loss_weights)
    return SparseLoss(total, nothing.index_copy(0, rows, hard), nothing.index_copy(0, rows, soft))


def cross_entropy_sum(
    hidden: Float[Tensor, "tokens hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    target_ids: Int[Tensor, "tokens"],
    loss_weights: Float[Tensor, "tokens"],
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens"]]:
    """`sparse_target_cross_entropy` with hard targets alone: the sum, and every token's own."""
    loss = sparse_target_cross_entropy(hidden, head_weight, target_ids, loss_weights, dtype=dtype)
    return loss.total, loss.hard


def _entries(targets: SparseTargets | None, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every entry's token (its place among `rows`), id and share; all empty without targets."""
    if targets is None:
        none = rows.new_empty(0)
        return none, none, none.float()
    assert len(targets.offsets) == len(rows) + 1, f"{len(targets.offsets) - 1} targets for {len(rows)} tokens"
    places = torch.arange(len(rows), device=rows.device)
    return places.repeat_interleave(targets.offsets.diff()), targets.ids, targets.shares


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: Tensor,
        head_weight: Tensor,
        target_ids: Tensor,
        loss_weights: Tensor,
        mixing: Tensor,
        entries: tuple[Tensor, Tensor, Tensor],
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        soft_rows, soft_ids, shares = entries
        head = head_weight.to(dtype)
        needs_grad = hidden.requires_grad or head_weight.requires_grad
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        grad_head = torch.zeros_like(head_weight, dtype=torch.float32) if needs_grad else None
        num_tokens, vocab_size = hidden.shape[0], head_weight.shape[0]
        hard = torch.empty(num_tokens, dtype=torch.float32, device=hidden.device)
        soft = torch.zeros_like(hard)
        num_rows = max(MIN_CHUNK_ROWS, CHUNK_LOGITS // vocab_size)
        starts = range(0, num_tokens, num_rows)
        borders = torch.searchsorted(soft_rows, torch.tensor([*starts, num_tokens], device=hidden.device))
        for start, (low, high) in zip(starts, pairwise(borders.tolist()), strict=True):
            piece = slice(start, start + num_rows)
            x = hidden[piece].to(dtype)
            log_probs = F.linear(x, head).float().log_softmax(-1)
            picked = target_ids[piece, None]
            hard[piece] = -log_probs.gather(1, picked)[:, 0]
            places = (soft_rows[low:high] - start) * vocab_size + soft_ids[low:high]
            if high > low:
                soft.index_add_(0, soft_rows[low:high], -shares[low:high] * log_probs.view(-1)[places])
            if grad_hidden is not None and grad_head is not None:
                # d(loss)/d logits = p - t, in place of the log-probabilities.
                slope = log_probs.exp_().scatter_add_(1, picked, (mixing[piece, None] - 1).float())
                if high > low:
                    slope.view(-1).index_add_(0, places, -shares[low:high] * mixing[soft_rows[low:high]])
                slope = slope.mul_(loss_weights[piece, None]).to(dtype)
                grad_hidden[piece] = (slope @ head).to(hidden.dtype)
                grad_head += slope.mT @ x
        if grad_hidden is not None and grad_head is not None:
            ctx.save_for_backward(grad_hidden, grad_head.to(head_weight.dtype))
        ctx.mark_non_differentiable(hard, soft)
        # lerp with weight 0 gives `hard` itself, to the bit.
        return (hard.lerp(soft, mixing.float()) * loss_weights).sum(), hard, soft

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        grad_hidden, grad_head = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = grads[0]
        return (
            grad_hidden * scale.to(grad_hidden.dtype),
            grad_head * scale.to(grad_head.dtype),
            None,
            None,
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


def plain_sparse_target_cross_entropy(
    hidden: Float[Tensor, "tokens hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    distributions: Float[Tensor, "tokens vocab"],
    loss_weights: Float[Tensor, "tokens"],
) -> Float[Tensor, ""]:
    """The slow twin of `sparse_target_cross_entropy`: all logits and whole distributions, under stock autograd."""
    log_probs = F.linear(hidden, head_weight).float().log_softmax(-1)
    return -((distributions * log_probs).sum(-1) * loss_weights).sum()
