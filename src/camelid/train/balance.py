"""Keeping experts busy: a global-batch auxiliary loss, or a selection bias without any loss; and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from camelid.core import MODALITIES, Batch, Config
from camelid.core.errors import ConfigError
from camelid.model import Llama4, RouterOutput
from camelid.model.moe import MoE

__all__ = ["BalanceConfig", "Balancer", "expert_counts", "max_violation", "selection_biases"]


@dataclass(frozen=True)
class BalanceConfig(Config):
    """`aux_loss` adds coefficient · E · Σ f_e P_e to the loss (Switch), f over the whole batch of the step so far:
    with several micro-batches the last sees all of it, as in 2501.11873, and only there is f that of the step.

    `loss_free_bias` moves the routers' selection bias by `bias_rate` towards the mean load after every step
    (2408.15664). The released format has no place for that bias, so over the last `release` part of a run it is
    clamped ever closer to zero while the auxiliary loss takes over. `z_loss` keeps router logits small.
    """

    kind: Literal["aux_loss", "loss_free_bias"] = "aux_loss"
    coefficient: float = 0.01
    z_loss: float = 1e-3
    bias_rate: float = 1e-3
    release: float = 0.1

    def __post_init__(self) -> None:
        for name in ("coefficient", "z_loss", "bias_rate"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.release <= 1:
            raise ConfigError(
                f"release must be in (0, 1], got {self.release}: a bias that stays cannot be saved"
            )


class Balancer:
    """The state of balancing within one step: how many tokens each expert got so far."""

    def __init__(self, config: BalanceConfig) -> None:
        self.config = config
        self._counts: dict[int, Tensor] = {}
        self._progress = 0.0

    def begin_step(self, progress: float) -> None:
        """Forgets the last step's counts. `progress` is the run's, in 0..1."""
        self._counts = {}
        self._progress = progress

    def loss(self, routers: Mapping[int, RouterOutput]) -> Tensor:
        """The loss of one micro-batch, the mean over its MoE layers."""
        is_releasing = self._progress >= 1 - self.config.release
        use_aux = self.config.kind == "aux_loss" or is_releasing
        losses = []
        for layer, routing in routers.items():
            num_experts = routing.logits.shape[-1]
            counts = torch.bincount(routing.expert_ids.flatten(), minlength=num_experts).float()
            self._counts[layer] = counts = self._counts.get(layer, 0) + counts
            loss = self.config.z_loss * routing.logits.logsumexp(-1).square().mean()
            if use_aux:
                mean_probability = routing.logits.softmax(-1).mean(0)
                share = counts / counts.sum()
                loss = loss + self.config.coefficient * num_experts * (share * mean_probability).sum()
            losses.append(loss)
        return torch.stack(losses).mean() if losses else torch.zeros(())

    @torch.no_grad()
    def end_step(self, model: Llama4) -> None:
        """Moves the selection biases; nothing to do for the auxiliary loss."""
        if self.config.kind == "aux_loss":
            return
        left = max(0.0, (1 - self._progress) / self.config.release)
        for layer, bias in selection_biases(model).items():
            if left < 1:
                bias.clamp_(-left, left)  # logits are of order 1, so this closes on zero from about there
                continue
            counts = self._counts[layer]
            bias.add_(torch.sign(counts.mean() - counts), alpha=self.config.bias_rate)
            bias.sub_(bias.mean())


def selection_biases(model: Llama4) -> dict[int, Tensor]:
    """Every router's selection bias by layer: training state that is no part of a released model."""
    return {
        index: layer.feed_forward.router.selection_bias
        for index, layer in enumerate(model.language_model.model.layers)
        if isinstance(layer.feed_forward, MoE)
    }


def expert_counts(
    routers: Mapping[int, RouterOutput], batch: Batch
) -> Int[Tensor, "layers modalities experts"]:
    """How many choices of each expert came from documents of each modality, by MoE layer."""
    modality_ids = batch.modality_ids()
    counts = []
    for routing in routers.values():
        num_experts, top_k = routing.logits.shape[-1], routing.expert_ids.shape[-1]
        cell = modality_ids.to(routing.expert_ids.device).repeat_interleave(top_k) * num_experts
        flat = torch.bincount(cell + routing.expert_ids.flatten(), minlength=len(MODALITIES) * num_experts)
        counts.append(flat.view(len(MODALITIES), num_experts))
    return torch.stack(counts).cpu() if counts else torch.zeros(0, len(MODALITIES), 0, dtype=torch.int64)


def max_violation(counts: Int[Tensor, "layers modalities experts"]) -> float:
    """MaxVio: the busiest expert's load over the mean load, minus 1, in the worst layer; 0 without MoE layers."""
    if not counts.numel():
        return 0.0
    load = counts.sum(1).float()
    return float((load.amax(-1) / load.mean(-1) - 1).max())
