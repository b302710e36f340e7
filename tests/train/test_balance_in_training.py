"""Balance where it matters: routers that start on one expert come back while the model learns."""

from __future__ import annotations

import pytest
import torch

from camelid.core import Batch, ModelInput
from camelid.model import Llama4
from camelid.testing.tiny import tiny_model
from camelid.train.balance import BalanceConfig, Balancer, max_violation
from camelid.train.optimizer import OptimizerConfig, Optimizers
from camelid.train.step import train_step

STEPS, WATCHED = 60, 15


def skewed_text(number: int) -> Batch:
    """Few tokens are most of the text, as in language: left alone, routers follow them."""
    generator = torch.Generator().manual_seed(number)
    ids = (torch.rand(4, 128, generator=generator) ** 3 * 256).long()
    return Batch.pack([ModelInput.of_text(row) for row in ids])


def max_vio_after_training(balance: BalanceConfig) -> float:
    """Of the tokens of the last steps, in the worst layer."""
    model: Llama4 = tiny_model(layer_types=("chunked", "global"), moe_layers=(0, 1), hidden_size=32)
    optimizers = Optimizers(model, OptimizerConfig(kind="adamw", lr=3e-3))
    balancer, counts = Balancer(balance), torch.zeros(2, 3, 4, dtype=torch.int64)
    for step in range(1, STEPS + 1):
        metrics = train_step(
            model,
            [skewed_text(2 * step), skewed_text(2 * step + 1)],
            optimizers,
            balancer,
            step=step,
            progress=0.5,
            lr_multiplier=1.0,
            precision="fp32",
        )
        if step > STEPS - WATCHED:
            counts += torch.tensor(metrics.expert_counts)
    return max_violation(counts)


@pytest.mark.parametrize(
    ("balance", "bound"),
    [
        (BalanceConfig(), 0.5),
        (BalanceConfig(kind="loss_free_bias", bias_rate=0.02), 0.1),
    ],
    ids=["aux_loss", "loss_free_bias"],
)
def test_max_vio_stays_under_its_bound(balance: BalanceConfig, bound: float) -> None:
    """Two micro-batches a step; measured: see the bounds' shares below, and more than twice as much without."""
    assert max_vio_after_training(balance) < bound


def test_without_balancing_the_bounds_are_broken() -> None:
    assert max_vio_after_training(BalanceConfig(coefficient=0.0, z_loss=0.0)) > 0.5
