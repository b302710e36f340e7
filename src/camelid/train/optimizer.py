"""Which parameter is trained by which optimizer, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from camelid.core import Config
from camelid.core.errors import CheckpointError, ConfigError
from camelid.model import Llama4
from camelid.train.metap import MetaPConfig, Multipliers, multipliers, run_multiplier
from camelid.train.muon import Muon, num_maps

__all__ = ["OptimizerConfig", "Optimizers", "is_hidden_matrix"]

# Matrices that are tables, choices or factors rather than maps: their numbers are trained one by one, by AdamW.
NOT_FOR_MUON = ("embed_tokens", "lm_head", "router", "positional_embedding", "lora_")
# What each optimizer keeps of a parameter, all of it or, before its first gradient, nothing.
ADAMW_STATE, MUON_STATE = frozenset({"step", "exp_avg", "exp_avg_sq"}), frozenset({"momentum_buffer"})


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """`lr` is shared: Muon's updates are scaled to AdamW's size. Weight decay is on matrices only.

    With `metap` the numbers are those of another size and are multiplied parameter by parameter, so that they fit
    this one; weight decay then takes away the same share over a run, whatever became of the rate.
    """

    kind: Literal["adamw", "muon"] = "muon"
    lr: float = 3e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    metap: MetaPConfig | None = None

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
        by_name: dict[str, Multipliers] = {}
        if config.metap is not None:
            assert isinstance(model, Llama4)
            by_name = multipliers(model.config, config.metap)
        groups: dict[bool, dict[tuple[float, float, int], list[nn.Parameter]]] = {False: {}, True: {}}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            is_matrix = is_hidden_matrix(name, parameter)
            by_muon = is_matrix and config.kind == "muon"
            lr_scale, decay_scale = _scales(name, by_name, config.metap, by_muon)
            decay = config.weight_decay * decay_scale if is_matrix or name.endswith("router.weight") else 0.0
            settings = (lr_scale, decay, num_maps(name) if by_muon else 1)
            groups[by_muon].setdefault(settings, []).append(parameter)
        adamw, muon = (
            [
                {"params": params, "lr_scale": lr_scale, "weight_decay": decay, "num_maps": maps}
                for (lr_scale, decay, maps), params in members.items()
            ]
            for members in groups.values()
        )
        self._members: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(adamw, lr=config.lr, betas=config.betas, fused=True)
        ]
        if muon:
            self._members.append(Muon(muon, lr=config.lr, weight_decay=config.weight_decay))

    def step(self, lr_multiplier: float) -> float:
        """One update of everything; returns the learning rate used, before `metap`'s multipliers."""
        lr = self.config.lr * lr_multiplier
        for member in self._members:
            for group in member.param_groups:
                group["lr"] = lr * group["lr_scale"]
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
        """The inverse of `state_tensors`; CheckpointError names the first tensor that does not fit.

        Neither does the state of another kind of optimizer, nor half of a parameter's.
        """
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
            kept = _state_names(owner[name])
            if key not in kept:
                raise CheckpointError(
                    f"optimizer state {full_name} is of another optimizer: {type(owner[name]).__name__}, which is "
                    f"configured, keeps {', '.join(sorted(kept))}"
                )
            owner[name].state[parameters[name]][key] = value.to(parameters[name].device, copy=True)
        for name, member in owner.items():
            kept = _state_names(member)
            state = member.state.get(parameters[name], {})
            if state and (missing := kept - state.keys()):
                raise CheckpointError(f"optimizer state of {name} lacks {', '.join(sorted(missing))}")


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a map between hidden states: Muon's, if there is Muon."""
    return parameter.ndim >= 2 and not any(part in name for part in NOT_FOR_MUON)


def _state_names(member: torch.optim.Optimizer) -> frozenset[str]:
    return MUON_STATE if isinstance(member, Muon) else ADAMW_STATE


def _scales(
    name: str, by_name: dict[str, Multipliers], metap: MetaPConfig | None, by_muon: bool
) -> tuple[float, float]:
    """What a parameter's rate and weight decay are multiplied by."""
    if metap is None:
        return 1.0, 1.0
    if name not in by_name:
        raise ConfigError(f"metap knows no parameter {name}: adapters have no other size to learn from")
    own = by_name[name].muon if by_muon else by_name[name].adamw
    scale = own * run_multiplier(metap)
    return scale, metap.batch / metap.tokens / scale
