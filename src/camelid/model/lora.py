"""Low-rank adapters (LoRA, 2106.09685) on projections and experts: the base stands still, a @ b learns.

For a linear layer W, W x becomes W x + (alpha / rank) b a x. Every expert of a layer has an a and a b of its own.
b starts as zeros, so an adapted model begins as its base.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.core import Config
from camelid.core.errors import ConfigError
from camelid.model.llama4 import Llama4
from camelid.model.moe import Experts
from camelid.ops import LowRank, compute_dtype, routed_experts

__all__ = [
    "LINEAR_TARGETS",
    "LoraConfig",
    "LoraExperts",
    "LoraLinear",
    "add_lora",
    "lora_state",
    "merged_state_dict",
]

LINEAR_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraConfig(Config):
    """Which layers of the text decoder are adapted, and how far. `experts` are the routed ones."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = LINEAR_TARGETS
    experts: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(
                f"LoRA needs a rank of at least 1 and alpha > 0, got {self.rank} and {self.alpha}"
            )
        if unknown := set(self.targets) - set(LINEAR_TARGETS):
            raise ConfigError(f"LoRA knows {', '.join(LINEAR_TARGETS)}, not {', '.join(sorted(unknown))}")
        if not self.targets and not self.experts:
            raise ConfigError("LoRA without targets and without experts would train nothing")

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.alpha / self.rank


class LoraLinear(nn.Linear):
    """A frozen linear layer with factors `lora_a` [rank, in] and `lora_b` [out, rank] beside its weight."""

    def __init__(self, base: nn.Linear, config: LoraConfig) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.scale = config.scale
        self.lora_a = nn.Parameter(base.weight.new_empty(config.rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        low: Tensor = F.linear(F.linear(x, self.lora_a), self.lora_b * self.scale)
        return super().forward(x) + low

    @torch.no_grad()
    def change(self, name: str, row: int | None = None) -> Tensor:
        """What the adapter adds to the weight, or to one row of it."""
        return self.scale * (self.lora_b if row is None else self.lora_b[row]) @ self.lora_a

    def adapted(self) -> tuple[str, ...]:
        """Names of the adapted parameters."""
        return ("weight",)


class LoraExperts(Experts):
    """Frozen experts, each with factors [in, rank] and [rank, out] beside both of its matrices."""

    def __init__(self, base: Experts, config: LoraConfig) -> None:
        nn.Module.__init__(self)
        self.gate_up_proj, self.down_proj = base.gate_up_proj, base.down_proj
        self.scale = config.scale
        for name, weight in (("gate_up", self.gate_up_proj), ("down", self.down_proj)):
            experts, rows, columns = weight.shape
            a = nn.Parameter(weight.new_empty(experts, rows, config.rank))
            nn.init.uniform_(a, -(rows**-0.5), rows**-0.5)
            self.register_parameter(f"{name}_lora_a", a)
            b = nn.Parameter(weight.new_zeros(experts, config.rank, columns))
            self.register_parameter(f"{name}_lora_b", b)

    def forward(
        self,
        x: Float[Tensor, "tokens hidden"],
        scores: Float[Tensor, "tokens top_k"],
        expert_ids: Int[Tensor, "tokens top_k"],
    ) -> Float[Tensor, "tokens hidden"]:
        dtype = compute_dtype(x)
        return routed_experts(
            x.to(dtype),
            scores.to(dtype),
            expert_ids,
            self.gate_up_proj.to(dtype),
            self.down_proj.to(dtype),
            *(_padded(a.to(dtype), (self.scale * b).to(dtype)) for _, a, b in self.factors()),
        )

    def factors(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name of the adapted parameter, and its two factors."""
        for name in ("gate_up", "down"):
            yield f"{name}_proj", getattr(self, f"{name}_lora_a"), getattr(self, f"{name}_lora_b")

    @torch.no_grad()
    def change(self, name: str, row: int | None = None) -> Tensor:
        """What the adapters add to a stack of matrices, or to one expert's."""
        a, b = next((a, b) for adapted, a, b in self.factors() if adapted == name)
        return self.scale * (a @ b if row is None else a[row] @ b[row])

    def adapted(self) -> tuple[str, ...]:
        """Names of the adapted parameters."""
        return tuple(name for name, _, _ in self.factors())


def _padded(a: Float[Tensor, "experts in rank"], b: Float[Tensor, "experts rank out"]) -> LowRank:
    """grouped_mm wants rows of whole 16 bytes; zeros in the rank change nothing."""
    missing = -a.shape[-1] % 8
    return LowRank(F.pad(a, (0, missing)), F.pad(b, (0, 0, 0, missing))) if missing else LowRank(a, b)


def add_lora(model: Llama4, config: LoraConfig, seed: int = 0) -> Llama4:
    """Freezes the model in place and puts adapters on its text decoder; returns it."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parent in list(model.language_model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Experts) and config.experts:
                    setattr(parent, name, LoraExperts(child, config))
                elif isinstance(child, nn.Linear) and name in config.targets:
                    setattr(parent, name, LoraLinear(child, config))
    return model


def lora_state(model: Llama4) -> dict[str, Tensor]:
    """The adapters' tensors by name; empty for a model without."""
    return {name: value for name, value in model.state_dict().items() if "lora_" in name.rpartition(".")[2]}


def merged_state_dict(model: Llama4) -> Mapping[str, Tensor]:
    """The state of a plain model that computes what this one does."""
    state = model.state_dict()
    adapted = lora_state(model)
    if not adapted:
        return state
    merged = {name: value for name, value in state.items() if name not in adapted}
    for prefix, module in model.named_modules():
        if isinstance(module, (LoraLinear, LoraExperts)):
            for name in module.adapted():
                merged[f"{prefix}.{name}"] = getattr(module, name).detach() + module.change(name)
    return merged
