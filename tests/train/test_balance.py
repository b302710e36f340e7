"""Balancing by hand: small routers whose losses, loads and biases can be worked out on paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from camelid.core import MODALITIES, Batch
from camelid.core.errors import ConfigError
from camelid.model import RouterOutput
from camelid.testing.tiny import tiny_config, tiny_input
from camelid.train.balance import BalanceConfig, Balancer, expert_counts, max_violation, selection_biases
from train.toy_training import toy_model

ONLY_AUX = BalanceConfig(coefficient=0.5, z_loss=0.0)
BIAS = BalanceConfig(kind="loss_free_bias", coefficient=0.5, z_loss=0.0, bias_rate=0.01, release=0.2)


def routing(expert_ids: list[int], logits: Tensor) -> RouterOutput:
    return RouterOutput(logits, torch.tensor(expert_ids)[:, None])


def test_even_routing_costs_the_coefficient() -> None:
    """E Σ f P = 2 (½ ½ + ½ ½) = 1."""
    balancer = Balancer(ONLY_AUX)
    balancer.begin_step(0.0)
    assert balancer.loss({0: routing([0, 1], torch.zeros(2, 2))}).item() == pytest.approx(0.5)


def test_all_on_one_expert_costs_as_often_as_there_are_experts() -> None:
    balancer = Balancer(ONLY_AUX)
    balancer.begin_step(0.0)
    logits = torch.tensor([[50.0, 0, 0, 0]]).expand(6, 4)
    assert balancer.loss({0: routing([0] * 6, logits)}).item() == pytest.approx(0.5 * 4)


def test_shares_are_those_of_the_whole_step_so_far() -> None:
    """f = (½, ½) after both micro-batches, though each went to one expert; the next step starts afresh."""
    balancer = Balancer(ONLY_AUX)
    balancer.begin_step(0.0)
    to_first, to_second = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, math.log(3)]])
    assert balancer.loss({0: routing([0], to_first)}).item() == pytest.approx(0.5 * 2 * 0.75)
    assert balancer.loss({0: routing([1], to_second)}).item() == pytest.approx(0.5 * 2 * 0.5)
    balancer.begin_step(0.1)
    assert balancer.loss({0: routing([1], to_second)}).item() == pytest.approx(0.5 * 2 * 0.75)


def test_the_gradient_takes_from_the_busy_expert() -> None:
    balancer = Balancer(ONLY_AUX)
    balancer.begin_step(0.0)
    logits = torch.zeros(4, 3, requires_grad=True)
    balancer.loss({0: routing([0, 0, 0, 1], logits)}).backward()
    assert logits.grad is not None
    slope = logits.grad[0]
    assert slope[0] > 0 > slope[1] > slope[2]


def test_z_loss_and_the_mean_over_layers() -> None:
    """ln² Σ e^0 over 4 experts in one layer, over 2 in the other."""
    balancer = Balancer(BalanceConfig(coefficient=0.0, z_loss=0.1))
    balancer.begin_step(0.0)
    routers = {1: routing([0], torch.zeros(1, 4)), 3: routing([0], torch.zeros(1, 2))}
    expected = 0.1 * (math.log(4) ** 2 + math.log(2) ** 2) / 2
    assert balancer.loss(routers).item() == pytest.approx(expected)


def test_a_dense_model_has_nothing_to_balance() -> None:
    balancer = Balancer(ONLY_AUX)
    balancer.begin_step(0.0)
    assert balancer.loss({}) == 0


def test_the_bias_moves_against_the_load_and_is_let_go_at_the_end() -> None:
    model = toy_model()
    balancer = Balancer(BIAS)
    loads = {layer: routing([0, 0, 0, 1, 1, 2], torch.zeros(6, 4)) for layer in selection_biases(model)}
    bias = selection_biases(model)[0]

    for _ in range(30):
        balancer.begin_step(0.5)
        assert balancer.loss(loads) == 0, "no auxiliary loss before the release"
        balancer.end_step(model)
    # Mean load 1.5: two above, two below, so the centred steps are ±0.01.
    torch.testing.assert_close(bias, 0.3 * torch.tensor([-1.0, -1.0, 1.0, 1.0]))

    sizes = []
    for progress in (0.9, 0.96, 0.98, 1.0):
        balancer.begin_step(progress)
        assert balancer.loss(loads) > 0, "the auxiliary loss takes over"
        balancer.end_step(model)
        sizes.append(bias.abs().max().item())
    assert sizes == pytest.approx([0.3, 0.2, 0.1, 0.0])
    assert not bias.any()


def test_the_auxiliary_loss_leaves_the_bias_alone() -> None:
    model = toy_model()
    balancer = Balancer(ONLY_AUX)
    balancer.begin_step(0.5)
    balancer.loss({layer: routing([0, 0], torch.zeros(2, 4)) for layer in selection_biases(model)})
    balancer.end_step(model)
    assert not any(bias.any() for bias in selection_biases(model).values())


def test_loads_by_layer_and_modality() -> None:
    config = tiny_config(vision=True)
    batch = Batch.pack([tiny_input(config, 3), tiny_input(config, 6, (1,)), tiny_input(config, 2)])
    top2 = RouterOutput(torch.zeros(11, 3), torch.tensor([[0, 1]] * 3 + [[2, 1]] * 6 + [[0, 2]] * 2))
    counts = expert_counts({0: top2, 2: top2}, batch)
    assert counts.shape == (2, len(MODALITIES), 3)
    assert counts[1].tolist() == [[5, 3, 2], [0, 6, 6], [0, 0, 0]]
    assert max_violation(counts) == pytest.approx(9 / (22 / 3) - 1)


def test_the_worst_layer_counts() -> None:
    even, skewed = torch.ones(1, 3, 4, dtype=torch.int64), torch.tensor([[[9, 1, 1, 1]] * 3])
    assert max_violation(even) == 0
    assert max_violation(torch.cat([even, skewed])) == pytest.approx(2.0)
    assert max_violation(torch.zeros(0, 3, 0, dtype=torch.int64)) == 0


@pytest.mark.parametrize(
    "bad", [{"coefficient": -1.0}, {"z_loss": -1.0}, {"bias_rate": -1.0}, {"release": 0.0}]
)
def test_numbers_that_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        BalanceConfig(**bad)
