"""How far one model's next-token probabilities are from another's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Difference", "compare_logits"]


@dataclass(frozen=True)
class Difference:
    """Means over tokens: KL divergence in nats, and the share whose likeliest next token is the same."""

    num_tokens: int
    kl: float
    top1_agreement: float

    def __add__(self, other: Difference) -> Difference:
        total = self.num_tokens + other.num_tokens
        share = other.num_tokens / max(total, 1)
        return Difference(
            total,
            self.kl + share * (other.kl - self.kl),
            self.top1_agreement + share * (other.top1_agreement - self.top1_agreement),
        )


def compare_logits(
    reference: Float[Tensor, "tokens vocab"], found: Float[Tensor, "tokens vocab"]
) -> Difference:
    """KL(reference || found), computed in fp64."""
    p, q = reference.double().log_softmax(-1), found.double().log_softmax(-1)
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    same = reference.argmax(-1) == found.argmax(-1)
    return Difference(len(reference), float(kl.mean()), float(same.double().mean()))
