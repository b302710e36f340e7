"""The two objectives of distillation: a student that learns from a teacher's targets, a teacher that leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core import MODALITIES, Batch
from camelid.core.errors import DataError
from camelid.data import TargetStore, TeacherTargets, batch_key
from camelid.model import ModelOutput
from camelid.train.losses import SparseTargets, cross_entropy_sum, sparse_target_cross_entropy
from camelid.train.objective import DistillMetrics
from camelid.train.soft_weight import SoftWeight, weighting
from camelid.train.teacher import TargetSource, draw_seed, draw_targets

__all__ = ["LearnFromTeacher", "LeaveTargets", "sparse_targets"]


class LearnFromTeacher:
    """(1 - a) · hard + a · soft, with a by modality as `soft_weight` says."""

    def __init__(self, source: TargetSource, soft_weight: SoftWeight) -> None:
        self.source = source
        self.weighting = weighting(soft_weight)

    def begin_step(self, step: int, progress: float, num_batches: int) -> None:
        """Fixes the soft weights of the step."""
        self._number = (step - 1) * num_batches
        self._soft_weight = self.weighting(progress)
        self._sums = {name: torch.zeros(len(MODALITIES)) for name in ("weight", "teacher", "kl")}

    def loss(
        self,
        batch: Batch,
        output: ModelOutput,
        head_weight: Float[Tensor, "vocab hidden"],
        dtype: torch.dtype | None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens"]]:
        """Asks the source for the batch's targets. DataError where they do not fit the batch."""
        device = batch.loss_weights.device
        targets = self.source.targets(batch, self._number)
        self._number += 1
        modality_ids = batch.modality_ids()
        by_modality = torch.tensor([self._soft_weight[name] for name in MODALITIES])
        loss = sparse_target_cross_entropy(
            output.hidden,
            head_weight,
            batch.target_ids,
            batch.loss_weights,
            sparse_targets(targets, batch),
            by_modality[modality_ids].to(device),
            dtype,
        )
        self._record(batch, targets, loss.soft.cpu(), modality_ids)
        return loss.total, loss.hard

    def _record(self, batch: Batch, targets: TeacherTargets, soft: Tensor, modality_ids: Tensor) -> None:
        weights = batch.loss_weights.cpu()
        rows = weights.nonzero()[:, 0]
        weights, ids = weights[rows], modality_ids[rows]
        entropies, log_probs = targets.entropies.float().cpu(), targets.log_probs.float().cpu()
        for name, values in (
            ("weight", torch.ones_like(weights)),
            ("teacher", -log_probs),
            ("kl", soft[rows] - entropies),
        ):
            self._sums[name].index_add_(0, ids, values * weights)

    def end_step(self, loss_by_modality: Mapping[str, float]) -> DistillMetrics | None:
        """The step in numbers; the weighting hears both hard losses."""
        weights = self._sums["weight"].tolist()
        there = [(index, name) for index, name in enumerate(MODALITIES) if weights[index] > 0]

        def means(name: str) -> dict[str, float]:
            sums = self._sums[name].tolist()
            return {modality: sums[index] / weights[index] for index, modality in there}

        teacher_loss = means("teacher")
        self.weighting.observe(loss_by_modality, teacher_loss)
        return DistillMetrics(
            soft_weight={name: self._soft_weight[name] for _, name in there},
            teacher_loss=teacher_loss,
            kl=means("kl"),
        )

    def save(self) -> dict[str, Any]:
        """The state of the weighting; new targets are made durable."""
        self.source.flush()
        return {"soft_weight": dict(self.weighting.state)}

    def resume(self, state: Mapping[str, Any]) -> None:
        """The weighting goes on where it was."""
        self.weighting.state = dict(state.get("soft_weight", {}))


class LeaveTargets:
    """A teacher's own training. The forward pass that it learns a batch from also leaves that batch's targets.

    They are made before the batch is learnt, so they hold nothing memorised.
    """

    def __init__(self, store: TargetStore) -> None:
        self.store = store
        self._number = 0

    def begin_step(self, step: int, progress: float, num_batches: int) -> None:
        """Counts batches."""
        self._number = (step - 1) * num_batches

    def loss(
        self,
        batch: Batch,
        output: ModelOutput,
        head_weight: Float[Tensor, "vocab hidden"],
        dtype: torch.dtype | None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens"]]:
        """Plain cross-entropy, and one more record."""
        key = batch_key(batch)
        seed = draw_seed(self.store.origin.seed, key, self._number)
        drawn = draw_targets(output.hidden, head_weight, batch.target_ids, batch.loss_weights, seed)
        self.store.add(key, self._number, drawn)
        self._number += 1
        return cross_entropy_sum(output.hidden, head_weight, batch.target_ids, batch.loss_weights, dtype)

    def end_step(self, loss_by_modality: Mapping[str, float]) -> DistillMetrics | None:
        """Nothing to record."""
        return None

    def save(self) -> dict[str, Any]:
        """A shard ends with every checkpoint."""
        self.store.flush()
        return {"num_batches": self._number}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Forgets what was written after the checkpoint: it will be written again."""
        self.store.drop_from(state.get("num_batches", 0))


def sparse_targets(targets: TeacherTargets, batch: Batch) -> SparseTargets:
    """Counts as shares, on the batch's device. DataError for targets of a batch of another size."""
    num_learnt = int((batch.loss_weights != 0).sum())
    if targets.num_tokens != num_learnt:
        raise DataError(
            f"targets for {targets.num_tokens:,} tokens, but the batch has {num_learnt:,} to learn"
        )
    device = batch.loss_weights.device
    return SparseTargets(
        targets.ids.to(device),
        (targets.counts / targets.num_draws).to(device),
        targets.offsets().to(device),
    )
