"""What the policy's loss does where it can be seen by hand."""

from __future__ import annotations

import math

import pytest
import torch

from camelid.core.errors import ConfigError
from camelid.train.policy_loss import (
    ClipConfig,
    clipped_policy_loss,
    group_advantages,
    is_informative,
    kl_to_reference,
)
from camelid.train.preference_loss import PreferenceConfig, preference_loss, summed_by
from camelid.train.token_logprobs import plain_token_logprobs, token_logprobs


def test_advantages_are_rewards_above_the_groups_mean_in_their_own_unit() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]])
    assert group_advantages(rewards).tolist() == [[0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    assert is_informative(rewards).tolist() == [True, False]


def slope(ratio: float, advantage: float) -> float:
    logprob = torch.tensor([math.log(ratio)], requires_grad=True)
    losses, is_clipped = clipped_policy_loss(
        logprob, torch.zeros(1), torch.tensor([advantage]), ClipConfig(0.2, 0.28)
    )
    losses.sum().backward()
    assert logprob.grad is not None
    assert bool(is_clipped) == (float(logprob.grad) == 0.0)
    return float(logprob.grad)


def test_the_clip_leaves_more_room_upwards_and_none_that_was_left_is_taken_back() -> None:
    assert slope(1.25, 1.0) == pytest.approx(-1.25)  # beyond 1.2, which would end it if both sides were alike
    assert slope(1.3, 1.0) == 0.0
    assert slope(0.85, -1.0) == pytest.approx(0.85)
    assert slope(0.79, -1.0) == 0.0
    # Moves back towards where it was sampled are never clipped.
    assert slope(1.3, -1.0) == pytest.approx(1.3)
    assert slope(0.7, 1.0) == pytest.approx(-0.7)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.2), (1.0, 0.2), (0.2, 0.0)])
def test_clips_that_cannot_be(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="clipping needs"):
        ClipConfig(low, high)


def test_the_pull_to_a_reference_is_least_at_it() -> None:
    logprobs = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    pull = kl_to_reference(logprobs, torch.tensor([-1.0, -2.0, -0.5]))
    pull.sum().backward()
    assert pull[0] == 0 and (pull[1:] > 0).all()
    assert logprobs.grad is not None
    assert logprobs.grad[0] == 0 and logprobs.grad[1] > 0 > logprobs.grad[2]


def test_log_probabilities_in_pieces_are_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camelid.train.token_logprobs.MIN_CHUNK_ROWS", 3)
    monkeypatch.setattr("camelid.train.token_logprobs.CHUNK_LOGITS", 1)
    torch.manual_seed(0)
    hidden, head = torch.randn(10, 8, dtype=torch.float64), torch.randn(17, 8, dtype=torch.float64)
    targets, weights = torch.randint(17, (10,)), torch.randn(10)
    results = []
    for function in (token_logprobs, plain_token_logprobs):
        x, w = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        logprobs, entropies = function(x, w, targets)
        assert not entropies.requires_grad
        (logprobs * weights).sum().backward()
        results.append((logprobs.detach(), entropies, x.grad, w.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_preferences_push_apart_and_the_supervised_term_lifts_the_chosen() -> None:
    values = torch.tensor([[-3.0], [-3.0]], requires_grad=True)
    zeros, lengths = torch.full((1,), -3.0), torch.full((1,), 2.0)
    slopes = []
    for weight in (0.0, 1.0):
        config = PreferenceConfig(0.1, sft_weight=weight)
        result = preference_loss(values[0], values[1], zeros, zeros, lengths, lengths, config)
        slopes.append(torch.autograd.grad(result.losses.sum(), values)[0].flatten().tolist())
    assert slopes[0] == pytest.approx([-0.05, 0.05])
    assert slopes[1] == pytest.approx([-0.55, 0.05])
    with pytest.raises(ConfigError, match="beta 0"):
        PreferenceConfig(0.0)


def test_sums_by_owner() -> None:
    assert summed_by(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 0, 1]), 3).tolist() == [2.0, 5.0, 0.0]
