"""Which parameter is trained by which optimizer, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from camelid.core import Config
from camelid.core.errors import CheckpointError, ConfigError
from camelid.train.muon import Muon

__all__ = ["OptimizerConfig", "Optimizers"]

# Matrices that are tables, choices or factors rather than maps: their numbers are trained one by one, by AdamW.
NOT_FOR_MUON = ("embed_tokens", "lm_head", "router", "positional_embedding", "lora_")


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """`lr` is shared: Muon's updates are scaled to AdamW's size. Weight decay is on matrices only."""

    kind: Literal["adamw", "muon"] = "muon"
    lr: float = 3e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.max_grad_norm <= 0:
            raise ConfigError(f"lr {self.lr} and max_grad_norm {self.max_grad_norm} must be positive")


class Optimizers:
    """AdamW, and Muon for the hidden matrices if so configured, stepped together.

    Of the kind `muon`, it gives Muon everything with two dimensions or more, experts and the vision
    encoder included. Embeddings, head, routers, norms, biases and adapters are AdamW's (fused); of these only the
    routers decay. Frozen parameters have no optimizer.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        muon: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            is_table = any(part in name for part in NOT_FOR_MUON)
            if parameter.ndim >= 2 and not is_table:
                (muon if config.kind == "muon" else decayed).append(parameter)
            else:
                (decayed if name.endswith("router.weight") else plain).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self._members: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        ]
        if muon:
            self._members.append(Muon(muon, lr=config.lr, weight_decay=config.weight_decay))

    def step(self, lr_multiplier: float) -> float:
        """One update of everything; returns the learning rate used."""
        lr = self.config.lr * lr_multiplier
        for member in self._members:
            for group in member.param_groups:
                group["lr"] = lr
            member.step()
        return lr

    def zero_grad(self) -> None:
        """Frees all gradients."""
        for member in self._members:
            member.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """All state, keyed by parameter name and state name, as it goes into a checkpoint."""
        return {
            f"{self._names[parameter]}|{key}": value
            for member in self._members
            for parameter, state in member.state.items()
            for key, value in state.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state_tensors`; CheckpointError names the first tensor that does not fit."""
        owner = {
            name: member
            for member in self._members
            for group in member.param_groups
            for name in (self._names[parameter] for parameter in group["params"])
        }
        parameters = {name: parameter for parameter, name in self._names.items()}
        for full_name, value in tensors.items():
            name, _, key = full_name.partition("|")
            if name not in owner:
                raise CheckpointError(f"optimizer state {full_name} belongs to no parameter of this model")
            if value.ndim and value.shape != parameters[name].shape:
                raise CheckpointError(
                    f"optimizer state {full_name} has shape {tuple(value.shape)}, "
                    f"expected {tuple(parameters[name].shape)}"
                )
            owner[name].state[parameters[name]][key] = value.to(parameters[name].device, copy=True)
