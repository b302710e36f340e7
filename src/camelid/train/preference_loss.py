"""Direct preference optimisation (2305.18290) as pure functions of sequence log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from camelid.core import Config
from camelid.core.errors import ConfigError

__all__ = ["PreferenceConfig", "PreferenceLoss", "preference_loss"]


@dataclass(frozen=True)
class PreferenceConfig(Config):
    """`beta` is how firmly the reference holds the policy.

    `per_token` divides a sequence's log-ratio by its length, so that long answers do not count for more and are not
    preferred for being long (as Tulu 3 does, 2411.15124); beta is then larger by about that length. `sft_weight`
    adds so many nats per token of the chosen answer, which keeps it likely while the rejected one falls.
    """

    beta: float = 0.1
    per_token: bool = False
    sft_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.sft_weight < 0:
            raise ConfigError(
                f"beta {self.beta} must be positive and sft_weight {self.sft_weight} not negative"
            )


@dataclass(frozen=True)
class PreferenceLoss:
    """Per pair: the loss, and beta times how far each answer rose above the reference (its implicit reward)."""

    losses: Float[Tensor, "pairs"]
    chosen_rewards: Float[Tensor, "pairs"]
    rejected_rewards: Float[Tensor, "pairs"]


def preference_loss(
    chosen: Float[Tensor, "pairs"],
    rejected: Float[Tensor, "pairs"],
    reference_chosen: Float[Tensor, "pairs"],
    reference_rejected: Float[Tensor, "pairs"],
    chosen_lengths: Float[Tensor, "pairs"],
    rejected_lengths: Float[Tensor, "pairs"],
    config: PreferenceConfig,
) -> PreferenceLoss:
    """-ln sigmoid of the difference in reward, from answers' summed log-probabilities and numbers of tokens."""
    chosen_rewards = config.beta * (chosen - reference_chosen)
    rejected_rewards = config.beta * (rejected - reference_rejected)
    if config.per_token:
        chosen_rewards, rejected_rewards = (
            chosen_rewards / chosen_lengths,
            rejected_rewards / rejected_lengths,
        )
    losses: Tensor = -F.logsigmoid(chosen_rewards - rejected_rewards)
    if config.sft_weight:
        losses = losses - config.sft_weight * chosen / chosen_lengths
    return PreferenceLoss(losses, chosen_rewards.detach(), rejected_rewards.detach())


def summed_by(values: Float[Tensor, "tokens"], owners: Tensor, count: int) -> Float[Tensor, "count"]:
    """The values added up by owner number 0..count-1."""
    return torch.zeros(count, device=values.device).index_add(0, owners, values)
