"""What a step makes smaller: the cross-entropy of the tokens that came, or whatever a stage puts in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core import Batch, Config
from camelid.model import ModelOutput
from camelid.train.losses import cross_entropy_sum

__all__ = ["DistillMetrics", "HardTargets", "Objective"]


@dataclass(frozen=True)
class DistillMetrics(Config):
    """What a step learnt from a teacher, by modality, in nats per valid token of it.

    `soft_weight` is the teacher's part of the loss, `teacher_loss` the teacher's own -ln p of the tokens that came,
    `kl` the estimated KL(teacher ‖ student), which noise of the draws may take below 0.
    """

    soft_weight: dict[str, float]
    teacher_loss: dict[str, float]
    kl: dict[str, float]


class Objective(Protocol):
    """One per run. `loss` is called for every micro-batch, between `begin_step` and `end_step`."""

    def begin_step(self, step: int, progress: float, num_batches: int) -> None:
        """`step` counts from 1, `progress` is the run's in 0..1."""
        ...

    def loss(
        self,
        batch: Batch,
        output: ModelOutput,
        head_weight: Float[Tensor, "vocab hidden"],
        dtype: torch.dtype | None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens"]]:
        """What is summed over the step and divided by its valid tokens; and every token's hard cross-entropy."""
        ...

    def end_step(self, loss_by_modality: Mapping[str, float]) -> DistillMetrics | None:
        """Hears the step's hard losses; not called when they are not finite. Returns what is worth recording."""
        ...

    def save(self) -> dict[str, Any]:
        """Makes everything so far durable, and gives what a resumed run needs, as JSON."""
        ...

    def resume(self, state: Mapping[str, Any]) -> None:
        """Takes back what `save` gave; an empty mapping at the start of a run."""
        ...


class HardTargets:
    """Plain training. It has no state."""

    def begin_step(self, step: int, progress: float, num_batches: int) -> None:
        """Nothing to prepare."""

    def loss(
        self,
        batch: Batch,
        output: ModelOutput,
        head_weight: Float[Tensor, "vocab hidden"],
        dtype: torch.dtype | None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens"]]:
        """Cross-entropy with the tokens that came."""
        return cross_entropy_sum(output.hidden, head_weight, batch.target_ids, batch.loss_weights, dtype)

    def end_step(self, loss_by_modality: Mapping[str, float]) -> DistillMetrics | None:
        """Nothing to record."""
        return None

    def save(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Nothing to take back."""
