"""The chunked cross-entropy against torch's plain one, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from camelid.train import losses
from camelid.train.losses import cross_entropy_sum, plain_cross_entropy

TOKENS, HIDDEN, VOCAB = 40, 16, 50


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows a piece: several whole pieces and a rest."""
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 7 * VOCAB)
    monkeypatch.setattr(losses, "MIN_CHUNK_ROWS", 1)


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


def gradients(loss: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss * 0.3, of)


def test_value_and_gradients_are_torchs(
    hidden: Tensor, head: Tensor, target_ids: Tensor, loss_weights: Tensor
) -> None:
    total, per_token = cross_entropy_sum(hidden, head, target_ids, loss_weights)
    expected = plain_cross_entropy(hidden, head, target_ids, loss_weights)
    torch.testing.assert_close(total, expected)
    ours, theirs = gradients(total, hidden, head), gradients(expected, hidden, head)
    torch.testing.assert_close(ours, theirs)
    each = F.cross_entropy(hidden @ head.mT, target_ids, reduction="none")
    torch.testing.assert_close(per_token, torch.where(loss_weights > 0, each, 0.0).detach())
    assert not per_token.requires_grad


@pytest.mark.parametrize("how", ["dtype", "autocast", "model in bf16"])
def test_bf16(hidden: Tensor, head: Tensor, target_ids: Tensor, loss_weights: Tensor, how: str) -> None:
    """Errors of single gradients measured at up to 0.5 % of the largest; the sum, in fp32, within 0.1 %."""
    expected = plain_cross_entropy(hidden, head, target_ids, loss_weights)
    theirs = gradients(expected, hidden, head)
    if how == "model in bf16":
        hidden, head = (tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, head))
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        dtype = torch.bfloat16 if how == "dtype" else None
        total, _ = cross_entropy_sum(hidden, head, target_ids, loss_weights, dtype)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, expected, rtol=2e-3, atol=0)
    for ours, reference, parameter in zip(
        gradients(total, hidden, head), theirs, (hidden, head), strict=True
    ):
        assert ours.dtype == parameter.dtype
        assert (ours.float() - reference).abs().max() < 0.01 * reference.abs().max()


def test_rows_without_weight_are_never_looked_at(head: Tensor, loss_weights: Tensor) -> None:
    """Not even when they are nonsense."""
    rows = loss_weights > 0
    hidden = torch.where(rows[:, None], torch.randn(TOKENS, HIDDEN), torch.nan).requires_grad_()
    target_ids = torch.where(rows, 3, -100)
    total, per_token = cross_entropy_sum(hidden, head, target_ids, loss_weights)
    grad_hidden, grad_head = gradients(total, hidden, head)
    assert total.isfinite()
    assert per_token.isfinite().all()
    assert grad_head.isfinite().all()
    assert (grad_hidden[~rows] == 0).all()


def test_nothing_to_learn_is_zero(hidden: Tensor, head: Tensor, target_ids: Tensor) -> None:
    total, per_token = cross_entropy_sum(hidden, head, target_ids, torch.zeros(TOKENS))
    assert total == 0
    assert (per_token == 0).all()
    assert all((grad == 0).all() for grad in gradients(total, hidden, head))


def test_logits_of_thousands_do_not_overflow(hidden: Tensor, head: Tensor, target_ids: Tensor) -> None:
    total, _ = cross_entropy_sum(hidden * 1e4, head, target_ids, torch.ones(TOKENS))
    expected = plain_cross_entropy(hidden * 1e4, head, target_ids, torch.ones(TOKENS))
    torch.testing.assert_close(total, expected)
