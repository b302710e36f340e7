"""One optimizer step over one or more micro-batches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from camelid.core import MODALITIES, Batch, Config
from camelid.core.errors import TrainingError
from camelid.model import Llama4
from camelid.train.balance import Balancer, expert_counts, max_violation
from camelid.train.losses import cross_entropy_sum
from camelid.train.optimizer import Optimizers

__all__ = ["Precision", "StepMetrics", "train_step"]

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class StepMetrics(Config):
    """What one step did. Losses in nats per valid token; `expert_counts` is [MoE layers][modalities][experts]."""

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
    precision: Precision = "bf16",
) -> StepMetrics:
    """Forward and backward over all micro-batches, clip, update.

    The loss is the sum over tokens divided by the valid tokens of the *whole* step, so accumulation changes
    nothing. A loss or gradient that is not finite skips the update and says so; weights never take it in.
    Raises TrainingError when no token of the step has a weight.
    """
    began = time.perf_counter()
    num_valid = sum(batch.num_valid_tokens for batch in batches)
    num_tokens = sum(batch.num_tokens for batch in batches)
    if num_valid <= 0:
        raise TrainingError(f"step {step}: none of its {num_tokens:,} tokens is to be learnt")
    device = next(model.parameters()).device
    dtype = torch.bfloat16 if precision == "bf16" else None
    balancer.begin_step(progress)
    loss_sum, balance_sum = 0.0, 0.0
    modality_sums = torch.zeros(len(MODALITIES))
    modality_weights = torch.zeros(len(MODALITIES))
    counts = torch.zeros((), dtype=torch.int64)
    for batch in (batch.to(device) for batch in batches):
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is not None):
            output = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
        head_weight = model.language_model.head_weight
        loss, per_token = cross_entropy_sum(
            output.hidden, head_weight, batch.target_ids, batch.loss_weights, dtype
        )
        balance = balancer.loss(output.routers) * (batch.num_tokens / num_tokens)
        (loss / num_valid + balance).backward()
        loss_sum += float(loss.detach())
        balance_sum += float(balance.detach())
        ids = batch.modality_ids()
        modality_sums.index_add_(0, ids, (per_token * batch.loss_weights).cpu())
        modality_weights.index_add_(0, ids, batch.loss_weights.cpu())
        counts = counts + expert_counts(output.routers, batch)
    grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), optimizers.config.max_grad_norm))
    is_skipped = not (math.isfinite(loss_sum) and math.isfinite(grad_norm))
    lr = 0.0
    if not is_skipped:
        lr = optimizers.step(lr_multiplier)
        balancer.end_step(model)
    optimizers.zero_grad()
    return StepMetrics(
        step=step,
        progress=progress,
        loss=loss_sum / num_valid,
        loss_by_modality={
            name: float(total / weight)
            for name, total, weight in zip(MODALITIES, modality_sums, modality_weights, strict=True)
            if weight > 0
        },
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
    )
