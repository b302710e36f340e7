"""One step: what is summed, what is divided by what, and when nothing may move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from camelid.core import MODALITIES, Batch
from camelid.core.errors import TrainingError
from camelid.model import Llama4
from camelid.testing.tiny import tiny_input
from camelid.train.balance import BalanceConfig, Balancer
from camelid.train.optimizer import OptimizerConfig, Optimizers
from camelid.train.step import StepMetrics, train_step
from train.toy_training import MODEL, toy_batch, toy_model

UNBALANCED = BalanceConfig(coefficient=0.0, z_loss=0.0)


class Recorder(Optimizers):
    """Keeps the gradients instead of using them."""

    def step(self, lr_multiplier: float) -> float:
        """Keeps; does not move."""
        self.seen = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            for parameter, name in self._names.items()
        }
        return 0.0


def step(model: Llama4, batches: Sequence[Batch], optimizers: Optimizers, **changes: Any) -> StepMetrics:
    fields = {"step": 7, "progress": 0.5, "lr_multiplier": 1.0, "precision": "fp32"}
    return train_step(model, batches, optimizers, Balancer(UNBALANCED), **fields | changes)


def mean_loss(model: Llama4, batch: Batch, where: Tensor) -> float:
    """Nats per valid token by torch's own cross-entropy."""
    hidden = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions).hidden
    losses = F.cross_entropy(model.logits(hidden), batch.target_ids, reduction="none")
    weights = batch.loss_weights * where
    return ((losses * weights).sum() / weights.sum()).item()


def test_accumulation_changes_nothing() -> None:
    """Documents of unequal length and weight: one batch, or one micro-batch each."""
    documents = [
        tiny_input(MODEL, 30, (2, 9)),
        tiny_input(MODEL, 9, seed=1),
        tiny_input(MODEL, 21, (4,), seed=2),
    ]
    documents[1] = replace(documents[1], loss_weights=documents[1].loss_weights * 0.5)
    model = toy_model()
    recorder = Recorder(model, OptimizerConfig(max_grad_norm=1e9))
    whole = step(model, [Batch.pack(documents)], recorder)
    expected = recorder.seen
    parts = step(model, [Batch.pack([document]) for document in documents], recorder)
    for name, grad in recorder.seen.items():
        torch.testing.assert_close(grad, expected[name], atol=2e-6, rtol=1e-4, msg=name)
    for field in ("loss", "grad_norm", "num_tokens", "num_valid_tokens", "num_tiles"):
        assert getattr(parts, field) == pytest.approx(getattr(whole, field), rel=1e-5), field
    assert parts.loss_by_modality == pytest.approx(whole.loss_by_modality, rel=1e-5)
    assert parts.expert_counts == whole.expert_counts


def test_metrics_say_what_happened() -> None:
    model, batch = toy_model(), toy_batch(0)
    ids = batch.modality_ids()
    everything = torch.ones_like(batch.loss_weights)
    expected = mean_loss(model, batch, everything)
    by_modality = {
        name: mean_loss(model, batch, (ids == index).float())
        for index, name in enumerate(MODALITIES)
        if name in batch.document_modalities
    }
    metrics = step(model, [batch], Optimizers(model, OptimizerConfig(lr=0.01)), lr_multiplier=0.25)
    assert metrics.loss == pytest.approx(expected, rel=1e-5)
    assert metrics.loss_by_modality == pytest.approx(by_modality, rel=1e-5)
    assert (metrics.step, metrics.progress, metrics.lr) == (7, 0.5, 0.0025)
    assert (metrics.num_tokens, metrics.num_tiles, metrics.is_skipped) == (47, 1, False)
    assert metrics.num_valid_tokens == float(batch.loss_weights.sum())
    counts = torch.tensor(metrics.expert_counts)
    assert counts.sum((1, 2)).tolist() == [47, 47]
    assert metrics.num_dead_experts == int((counts.sum(1) == 0).sum())


def test_experts_without_a_token_are_counted() -> None:
    """A bias that none can overcome sends everything to two of four experts, in both layers."""
    model = toy_model()
    for layer in model.language_model.model.layers:
        layer.feed_forward.router.selection_bias.copy_(torch.tensor([0.0, -1e3, 0.0, -1e3]))
    metrics = step(model, [toy_batch(0), toy_batch(1)], Recorder(model, OptimizerConfig()))
    assert metrics.num_dead_experts == 4


def test_learning_one_batch_by_heart() -> None:
    model, batch = toy_model(), toy_batch(0)
    optimizers = Optimizers(model, OptimizerConfig(lr=0.02))
    losses = [step(model, [batch], optimizers, precision="bf16").loss for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_balance_loss_is_weighed_by_tokens() -> None:
    """A z-loss alone, over micro-batches of unequal length, is the mean over all tokens."""
    model = toy_model()
    documents = [tiny_input(MODEL, 40), tiny_input(MODEL, 8, seed=1)]
    values = []
    for batches in ([Batch.pack(documents)], [Batch.pack([document]) for document in documents]):
        balancer = Balancer(BalanceConfig(coefficient=0.0, z_loss=1.0))
        recorder = Recorder(model, OptimizerConfig())
        metrics = train_step(
            model, batches, recorder, balancer, step=1, progress=0.0, lr_multiplier=1.0, precision="fp32"
        )
        values.append(metrics.balance_loss)
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_gradients_are_clipped_together() -> None:
    model = toy_model()
    recorder = Recorder(model, OptimizerConfig(max_grad_norm=0.1))
    metrics = step(model, [toy_batch(0)], recorder)
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in recorder.seen.values()))
    assert metrics.grad_norm > 0.1
    assert norm == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_never_reaches_the_weights(value: float) -> None:
    model = toy_model()
    poisoned = model.language_model.lm_head.weight
    with torch.no_grad():
        poisoned[0, 0] = value
    before = {name: parameter.clone() for name, parameter in model.state_dict().items()}
    optimizers = Optimizers(model, OptimizerConfig())
    metrics = step(model, [toy_batch(0)], optimizers)
    assert metrics.is_skipped
    assert metrics.lr == 0
    assert optimizers.state_tensors() == {}
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, parameter in model.state_dict().items():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0, equal_nan=True)


def test_a_micro_batch_may_teach_nothing_but_a_step_may_not() -> None:
    model = toy_model()
    batch = toy_batch(0)
    mute = replace(toy_batch(1), loss_weights=torch.zeros(47))
    recorder = Recorder(model, OptimizerConfig())
    assert step(model, [batch, mute], recorder).loss == pytest.approx(step(model, [batch], recorder).loss)
    with pytest.raises(TrainingError, match="step 7: none of its 47 tokens"):
        step(model, [mute], recorder)


def test_bf16_is_close() -> None:
    """Measured: 0.01 %."""
    model = toy_model()
    recorder = Recorder(model, OptimizerConfig())
    exact, rounded = (step(model, [toy_batch(0)], recorder, precision=kind) for kind in ("fp32", "bf16"))
    assert rounded.loss != exact.loss
    assert rounded.loss == pytest.approx(exact.loss, rel=1e-3)
