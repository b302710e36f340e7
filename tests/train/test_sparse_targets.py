"""Soft and mixed targets against whole distributions under stock autograd: values, gradients, memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from camelid.train import losses
from camelid.train.losses import (
    SparseTargets,
    cross_entropy_sum,
    plain_sparse_target_cross_entropy,
    sparse_target_cross_entropy,
)

TOKENS, HIDDEN, VOCAB = 40, 16, 50


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows a piece."""
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 7 * VOCAB)
    monkeypatch.setattr(losses, "MIN_CHUNK_ROWS", 1)
    torch.manual_seed(0)


@pytest.fixture
def hidden() -> Tensor:
    return torch.randn(TOKENS, HIDDEN, requires_grad=True)


@pytest.fixture
def head() -> Tensor:
    return torch.randn(VOCAB, HIDDEN, requires_grad=True)


@pytest.fixture
def target_ids() -> Tensor:
    return torch.randint(VOCAB, (TOKENS,))


@pytest.fixture
def loss_weights() -> Tensor:
    """A third zeros, the rest between 0 and 2."""
    return torch.rand(TOKENS).mul(2) * (torch.arange(TOKENS) % 3 > 0)


def some_targets(loss_weights: Tensor) -> SparseTargets:
    """0 to 5 ids for each token with a weight; every fifth has none."""
    ids, shares, offsets = [], [], [0]
    for token in range(int((loss_weights > 0).sum())):
        length = token % 5
        ids.append(torch.randperm(VOCAB)[:length])
        share = torch.rand(length)
        shares.append(share / share.sum())
        offsets.append(offsets[-1] + length)
    return SparseTargets(torch.cat(ids), torch.cat(shares), torch.tensor(offsets))


def whole(targets: SparseTargets, target_ids: Tensor, loss_weights: Tensor, soft: Tensor) -> Tensor:
    """The same as full distributions."""
    out = torch.zeros(TOKENS, VOCAB)
    for place, row in enumerate(loss_weights.nonzero()[:, 0].tolist()):
        entries = slice(*targets.offsets[place : place + 2].tolist())
        part = float(soft[row]) if entries.stop > entries.start else 0.0
        out[row, targets.ids[entries]] = part * targets.shares[entries]
        out[row, target_ids[row]] += 1 - part
    return out


@pytest.mark.parametrize("part", ["hard", "soft", "mixed"])
def test_values_and_gradients_are_those_of_whole_distributions(
    part: str, hidden: Tensor, head: Tensor, target_ids: Tensor, loss_weights: Tensor
) -> None:
    targets = some_targets(loss_weights)
    soft_weights = {"hard": torch.zeros(TOKENS), "soft": torch.ones(TOKENS), "mixed": torch.rand(TOKENS)}[
        part
    ]
    loss = sparse_target_cross_entropy(hidden, head, target_ids, loss_weights, targets, soft_weights)
    expected = plain_sparse_target_cross_entropy(
        hidden, head, whole(targets, target_ids, loss_weights, soft_weights), loss_weights
    )
    torch.testing.assert_close(loss.total, expected)
    ours, theirs = (torch.autograd.grad(total * 0.3, (hidden, head)) for total in (loss.total, expected))
    torch.testing.assert_close(ours, theirs)
    # What is reported beside it does not depend on the mixture.
    total, each = cross_entropy_sum(hidden, head, target_ids, loss_weights)
    assert torch.equal(loss.hard, each) and not loss.hard.requires_grad
    if part == "hard":
        assert torch.equal(loss.total, total)
    soft_only = whole(targets, target_ids, loss_weights, torch.ones(TOKENS))
    soft = -(soft_only * (hidden @ head.mT).log_softmax(-1)).sum(-1)
    rows = loss_weights.nonzero()[:, 0][targets.offsets.diff() > 0]
    torch.testing.assert_close(loss.soft[rows], soft.detach()[rows])
    assert loss.soft.count_nonzero() == len(rows)


def test_bf16(hidden: Tensor, head: Tensor, target_ids: Tensor, loss_weights: Tensor) -> None:
    """Single gradients within 1 % of the largest, measured 0.5 %; the sum within 0.2 %."""
    targets, soft_weights = some_targets(loss_weights), torch.rand(TOKENS)
    exact = sparse_target_cross_entropy(hidden, head, target_ids, loss_weights, targets, soft_weights).total
    rounded = sparse_target_cross_entropy(
        hidden, head, target_ids, loss_weights, targets, soft_weights, torch.bfloat16
    ).total
    assert rounded.dtype == torch.float32 and rounded != exact
    torch.testing.assert_close(rounded, exact, rtol=2e-3, atol=0)
    for ours, theirs in zip(
        *(torch.autograd.grad(total, (hidden, head)) for total in (rounded, exact)), strict=True
    ):
        assert (ours - theirs).abs().max() < 0.01 * theirs.abs().max()


def test_rows_without_weight_are_never_looked_at(head: Tensor, loss_weights: Tensor) -> None:
    rows = loss_weights > 0
    hidden = torch.where(rows[:, None], torch.randn(TOKENS, HIDDEN), torch.nan).requires_grad_()
    target_ids = torch.where(rows, 3, -100)
    soft_weights = torch.where(rows, 0.5, torch.nan)
    loss = sparse_target_cross_entropy(
        hidden, head, target_ids, loss_weights, some_targets(loss_weights), soft_weights
    )
    grad_hidden, grad_head = torch.autograd.grad(loss.total, (hidden, head))
    assert loss.total.isfinite() and grad_head.isfinite().all() and loss.soft.isfinite().all()
    assert (grad_hidden[~rows] == 0).all()


def test_nothing_to_learn_is_zero(hidden: Tensor, head: Tensor, target_ids: Tensor) -> None:
    none, no_ids = torch.zeros(TOKENS), torch.zeros(0, dtype=torch.int64)
    targets = SparseTargets(no_ids, no_ids.float(), torch.zeros(1, dtype=torch.int64))
    loss = sparse_target_cross_entropy(hidden, head, target_ids, none, targets, none)
    assert loss.total == 0 and (loss.soft == 0).all()


def test_targets_for_another_number_of_tokens_are_our_mistake(
    hidden: Tensor, head: Tensor, target_ids: Tensor, loss_weights: Tensor
) -> None:
    targets = some_targets(loss_weights)
    with pytest.raises(AssertionError, match="26 targets for 40 tokens"):
        sparse_target_cross_entropy(hidden, head, target_ids, torch.ones(TOKENS), targets, torch.ones(TOKENS))


class Largest(TorchDispatchMode):
    """Remembers the most elements that any result had."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_llama_4s_vocabulary_fits_because_logits_never_stand_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is larger than a piece's logits. Unpatched, a piece of 256 rows of 202,048 takes 207 MB in fp32."""
    tokens, vocab, width, num_rows = 40, 202_048, 2, 4
    monkeypatch.setattr(losses, "MIN_CHUNK_ROWS", num_rows)
    hidden, head = (
        torch.randn(tokens, width, requires_grad=True),
        torch.randn(vocab, width, requires_grad=True),
    )
    targets = SparseTargets(
        torch.arange(12 * tokens) + vocab - 12 * tokens,
        torch.full((12 * tokens,), 1 / 12),
        torch.arange(tokens + 1) * 12,
    )
    ones = torch.ones(tokens)
    with Largest() as largest:
        loss = sparse_target_cross_entropy(
            hidden, head, torch.zeros_like(ones).long(), ones, targets, 0.9 * ones
        )
        loss.total.backward()
    assert loss.total.isfinite()
    assert largest.numel == num_rows * vocab
