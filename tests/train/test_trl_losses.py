"""Our losses and TRL's on the same numbers (written down by scripts/trl_losses.py): equal to 1e-6, gradients too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from camelid.train.policy_loss import (
    ClipConfig,
    clipped_policy_loss,
    group_advantages,
    is_informative,
    kl_to_reference,
)
from camelid.train.preference_loss import PreferenceConfig, preference_loss

TRL: dict[str, Any] = json.loads(Path(__file__).with_name("trl_losses.json").read_text())
TOLERANCE = 1e-6


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(ours).double(), tensor(theirs), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", TRL["preferences"], ids=["sum", "per token"])
def test_preferences(case: dict[str, Any]) -> None:
    logprobs = tensor(case["logprobs"]).requires_grad_()
    sums, reference = logprobs.sum(1), tensor(case["reference"])
    config = PreferenceConfig(case["beta"], per_token=case is TRL["preferences"][1])
    chosen_lengths, rejected_lengths = tensor(case["chosen_lengths"]), tensor(case["rejected_lengths"])
    result = preference_loss(
        sums[:2], sums[2:], reference[:2], reference[2:], chosen_lengths, rejected_lengths, config
    )
    loss = result.losses.mean()
    close(loss.detach(), case["loss"])
    (gradient,) = torch.autograd.grad(loss, logprobs)
    lengths = torch.cat([chosen_lengths, rejected_lengths])
    is_token = torch.arange(logprobs.shape[1]) < lengths[:, None]
    close(gradient * is_token, case["gradient"])
    # TRL tells rewards of sums whatever its loss divides by.
    scale = (chosen_lengths, rejected_lengths) if config.per_token else (1.0, 1.0)
    close((result.chosen_rewards * scale[0]).mean(), case["chosen_reward"])
    close((result.rejected_rewards * scale[1]).mean(), case["rejected_reward"])


def test_advantages() -> None:
    case = TRL["advantages"]
    rewards = tensor(case["rewards"])
    close(group_advantages(rewards), case["advantages"])
    assert is_informative(rewards).tolist() == [not is_zero for is_zero in case["is_std_zero"]]


@pytest.mark.parametrize("case", TRL["policy"], ids=["clip alone", "with a reference"])
def test_policy(case: dict[str, Any]) -> None:
    logprobs = tensor(case["logprobs"]).requires_grad_()
    lengths = torch.tensor(case["lengths"])
    is_token = torch.arange(logprobs.shape[1]) < lengths[:, None]
    losses, is_clipped = clipped_policy_loss(
        logprobs[is_token],
        tensor(case["old"])[is_token],
        tensor(case["advantages"]).repeat_interleave(lengths),
        ClipConfig(*case["clip"]),
    )
    if case["kl_weight"]:
        pull = kl_to_reference(logprobs[is_token], tensor(case["reference"])[is_token])
        losses = losses + case["kl_weight"] * pull
    close(losses.mean().detach(), case["loss"])
    close(torch.autograd.grad(losses.mean(), logprobs)[0], case["gradient"])
    close(is_clipped.double().mean(), case["clip_share"])
