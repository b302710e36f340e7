"""One or more optimizer steps on any objective of the tokens' log-probabilities: policy gradients, preferences."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.core import Batch
from camelid.core.errors import TrainingError
from camelid.model import Llama4, ModelOutput
from camelid.train.balance import Balancer, expert_counts, max_violation
from camelid.train.optimizer import Optimizers
from camelid.train.precision import Precision, autocast_dtype
from camelid.train.step import StepMetrics
from camelid.train.token_logprobs import token_logprobs

__all__ = ["Objective", "ObjectiveLoss", "Scored", "objective_step", "score"]


@dataclass(frozen=True)
class Scored:
    """The tokens of a batch that count (weight above 0): where they are, ln p of each, its whole entropy."""

    rows: Int[Tensor, "valid"]
    logprobs: Float[Tensor, "valid"]
    entropies: Float[Tensor, "valid"]


@dataclass(frozen=True)
class ObjectiveLoss:
    """A batch's share of the step's loss, already divided by what the whole step is divided by.

    `sums` are numbers worth telling; over batches and passes they are added up, and `max_` ones maximised.
    """

    loss: Float[Tensor, ""]
    sums: dict[str, float]


Objective = Callable[[int, Scored, int], ObjectiveLoss]
"""From the batch's number, its scores and the number of the pass over all batches."""


def score(model: Llama4, batch: Batch, precision: Precision = "fp32") -> tuple[Scored, ModelOutput]:
    """A forward pass over a batch on the model's device."""
    device = batch.token_ids.device
    dtype = autocast_dtype(precision, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype is not None):
        output = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
    rows = batch.loss_weights.nonzero()[:, 0]
    hidden, head_weight = output.hidden.index_select(0, rows), model.language_model.head_weight
    dtype = dtype or hidden.dtype
    logprobs, entropies = token_logprobs(hidden.to(dtype), head_weight.to(dtype), batch.target_ids[rows])
    return Scored(rows, logprobs, entropies), output


def objective_step(
    model: Llama4,
    batches: Sequence[Batch],
    objective: Objective,
    optimizers: Optimizers,
    balancer: Balancer,
    *,
    step: int,
    progress: float,
    lr_multiplier: float,
    precision: Precision = "fp32",
    num_passes: int = 1,
) -> StepMetrics:
    """`num_passes` times: forward and backward over all batches, clip, update.

    As in `train_step`, a loss or gradient that is not finite skips its update and says so.
    """
    began = time.perf_counter()
    device = next(model.parameters()).device
    num_tokens = sum(batch.num_tokens for batch in batches)
    if not num_tokens:
        raise TrainingError(f"step {step}: no batch")
    loss_sum = balance_sum = grad_norm = lr = 0.0
    is_skipped = False
    sums: dict[str, float] = {}
    counts = torch.zeros((), dtype=torch.int64)
    for pass_number in range(num_passes):
        balancer.begin_step(progress)
        loss_sum = balance_sum = 0.0
        for number, batch in enumerate(batches):
            scored, output = score(model, batch.to(device), precision)
            result = objective(number, scored, pass_number)
            balance = balancer.loss(output.routers) * (batch.num_tokens / num_tokens)
            (result.loss + balance).backward()
            loss_sum += float(result.loss.detach())
            balance_sum += float(balance.detach())
            _add_up(sums, result.sums)
            if pass_number == 0:
                counts = counts + expert_counts(output.routers, batch)
        grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), optimizers.config.max_grad_norm))
        if math.isfinite(loss_sum) and math.isfinite(grad_norm):
            lr = optimizers.step(lr_multiplier)
            balancer.end_step(model)
        else:
            is_skipped = True
        optimizers.zero_grad()
    return StepMetrics(
        step=step,
        progress=progress,
        loss=loss_sum,
        loss_by_modality={},
        balance_loss=balance_sum,
        grad_norm=grad_norm,
        lr=lr,
        is_skipped=is_skipped,
        num_tokens=num_tokens,
        num_valid_tokens=sum(batch.num_valid_tokens for batch in batches),
        num_tiles=sum(batch.tiles.shape[0] for batch in batches),
        max_vio=max_violation(counts),
        expert_counts=counts.tolist(),
        seconds=time.perf_counter() - began,
        numbers=sums,
    )


def _add_up(totals: dict[str, float], more: dict[str, float]) -> None:
    for name, value in more.items():
        if name.startswith("max_"):
            totals[name] = max(totals.get(name, 0.0), value)
        else:
            totals[name] = totals.get(name, 0.0) + value
