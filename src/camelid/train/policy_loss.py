"""Policy gradients as pure functions: group baseline, asymmetric clip, mean over all tokens, pull to a reference.

Group-relative rewards after GRPO (2402.03300), without its division by the group's spread and without any by a
completion's length (Dr. GRPO, 2503.20783); clip-higher and the mean over all tokens of a step after DAPO
(2503.14476).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from camelid.core import Config
from camelid.core.errors import ConfigError

__all__ = ["ClipConfig", "clipped_policy_loss", "group_advantages", "is_informative", "kl_to_reference"]


@dataclass(frozen=True)
class ClipConfig(Config):
    """How far a token's probability may move from where it was sampled: to 1 - `low`, or 1 + `high`, times that.

    `high` above `low` leaves unlikely tokens room to become likely.
    """

    low: float = 0.2
    high: float = 0.28

    def __post_init__(self) -> None:
        if not (0 < self.low < 1 and self.high > 0):
            raise ConfigError(
                f"clipping needs low in (0, 1) and high above 0, got {self.low} and {self.high}"
            )


def group_advantages(rewards: Float[Tensor, "groups samples"]) -> Float[Tensor, "groups samples"]:
    """What a sample's reward is above the mean of its group, in units of reward."""
    return rewards - rewards.mean(dim=1, keepdim=True)


def is_informative(rewards: Float[Tensor, "groups samples"]) -> Bool[Tensor, "groups"]:
    """Whether a group's samples differ in reward; one whose do not says nothing about which is better."""
    return (rewards != rewards[:, :1]).any(dim=1)


def clipped_policy_loss(
    logprobs: Float[Tensor, "tokens"],
    sampled_logprobs: Float[Tensor, "tokens"],
    advantages: Float[Tensor, "tokens"],
    clip: ClipConfig,
) -> tuple[Float[Tensor, "tokens"], Bool[Tensor, "tokens"]]:
    """Each token's loss, and where the clip took its gradient away.

    With r the ratio of the token's probability now to that when it was sampled, and A its advantage, the loss is
    -min(r A, clip(r) A).
    """
    ratio = (logprobs - sampled_logprobs).exp()
    clipped = ratio.clamp(1 - clip.low, 1 + clip.high)
    is_clipped = torch.where(advantages > 0, ratio > 1 + clip.high, ratio < 1 - clip.low) & (advantages != 0)
    return -torch.minimum(ratio * advantages, clipped * advantages), is_clipped.detach()


def kl_to_reference(
    logprobs: Float[Tensor, "tokens"], reference_logprobs: Float[Tensor, "tokens"]
) -> Float[Tensor, "tokens"]:
    """An estimate, from the sampled token alone, of KL(policy ‖ reference) that is never negative.

    With d = ln reference - ln policy it is exp(d) - d - 1.
    """
    difference = reference_logprobs - logprobs
    return difference.exp() - difference - 1
