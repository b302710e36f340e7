"""One optimizer step over one or more micro-batches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from camelid.core import MODALITIES, Batch, Config
from camelid.core.errors import TrainingError
from camelid.model import Llama4
from camelid.train.balance import Balancer, expert_counts, max_violation
from camelid.train.objective import DistillMetrics, HardTargets, Objective
from camelid.train.optimizer import Optimizers
from camelid.train.precision import Precision, autocast_dtype

__all__ = ["StepMetrics", "train_step"]


@dataclass(frozen=True)
class StepMetrics(Config):
    """What one step did. Losses in nats per valid token; `expert_counts` is [MoE layers][modalities][experts].

    `num_dead_experts` are those, of all layers, that no token of the step went to.
    """

    step: int
    progress: float
    loss: float
    loss_by_modality: dict[str, float]
    balance_loss: float
    grad_norm: float
    lr: float
    is_skipped: bool
    num_tokens: int
    num_valid_tokens: float
    num_tiles: int
    max_vio: float
    expert_counts: list[list[list[int]]]
    seconds: float
    num_skipped_examples: int = 0
    num_dead_experts: int = 0
    distill: DistillMetrics | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    """What else a stage tells of a step, by name."""


def train_step(
    model: Llama4,
    batches: Sequence[Batch],
    optimizers: Optimizers,
    balancer: Balancer,
    *,
    step: int,
    progress: float,
    lr_multiplier: float,
    precision: Precision = "auto",
    objective: Objective | None = None,
) -> StepMetrics:
    """Forward and backward over all micro-batches, clip, update.

    The loss is the sum over tokens divided by the valid tokens of the *whole* step, so accumulation changes
    nothing. A loss or gradient that is not finite skips the update and says so; weights never take it in.
    `objective` (default: `HardTargets`) says what is made smaller; the losses reported are always the hard ones.
    Raises TrainingError when no token of the step has a weight.
    """
    began = time.perf_counter()
    num_valid = sum(batch.num_valid_tokens for batch in batches)
    num_tokens = sum(batch.num_tokens for batch in batches)
    if num_valid <= 0:
        raise TrainingError(f"step {step}: none of its {num_tokens:,} tokens is to be learnt")
    device = next(model.parameters()).device
    dtype = autocast_dtype(precision, device)
    objective = objective or HardTargets()
    objective.begin_step(step, progress, len(batches))
    balancer.begin_step(progress)
    objective_sum, hard_sum, balance_sum = 0.0, 0.0, 0.0
    modality_sums = torch.zeros(len(MODALITIES))
    modality_weights = torch.zeros(len(MODALITIES))
    counts = torch.zeros((), dtype=torch.int64)
    for batch in (batch.to(device) for batch in batches):
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is not None):
            output = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
        head_weight = model.language_model.head_weight
        loss, per_token = objective.loss(batch, output, head_weight, dtype)
        balance = balancer.loss(output.routers) * (batch.num_tokens / num_tokens)
        (loss / num_valid + balance).backward()
        objective_sum += float(loss.detach())
        balance_sum += float(balance.detach())
        ids, weighted = batch.modality_ids(), per_token * batch.loss_weights
        hard_sum += float(weighted.sum())
        modality_sums.index_add_(0, ids, weighted.cpu())
        modality_weights.index_add_(0, ids, batch.loss_weights.cpu())
        counts = counts + expert_counts(output.routers, batch)
    grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), optimizers.config.max_grad_norm))
    is_skipped = not (math.isfinite(objective_sum) and math.isfinite(grad_norm))
    loss_by_modality: dict[str, float] = {
        name: float(total / weight)
        for name, total, weight in zip(MODALITIES, modality_sums, modality_weights, strict=True)
        if weight > 0
    }
    lr, distill = 0.0, None
    if not is_skipped:
        lr = optimizers.step(lr_multiplier)
        balancer.end_step(model)
        distill = objective.end_step(loss_by_modality)
    optimizers.zero_grad()
    return StepMetrics(
        step=step,
        progress=progress,
        loss=hard_sum / num_valid,
        loss_by_modality=loss_by_modality,
        balance_loss=balance_sum,
        grad_norm=grad_norm,
        lr=lr,
        is_skipped=is_skipped,
        num_tokens=num_tokens,
        num_valid_tokens=num_valid,
        num_tiles=sum(batch.tiles.shape[0] for batch in batches),
        max_vio=max_violation(counts),
        expert_counts=counts.tolist(),
        seconds=time.perf_counter() - began,
        num_dead_experts=int((counts.sum(1) == 0).sum()) if counts.numel() else 0,
        distill=distill,
    )
