"""What a forward pass returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["ModelOutput", "RouterOutput"]


@dataclass(frozen=True)
class RouterOutput:
    """What one router decided: its logits (fp32) and the experts that each token went to."""

    logits: Float[Tensor, "tokens experts"]
    expert_ids: Int[Tensor, "tokens top_k"]


@dataclass(frozen=True)
class ModelOutput:
    """Hidden states after the final norm, and every MoE layer's routing by layer index.

    Logits are left to the caller (`Llama4.logits`), who rarely needs all of them at once.
    """

    hidden: Float[Tensor, "tokens hidden"]
    routers: Mapping[int, RouterOutput]
