"""Choosing the next token from its logits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core import SamplingParams

__all__ = ["sample"]


def sample(
    logits: Float[Tensor, "vocab"], params: SamplingParams, generator: torch.Generator | None = None
) -> int:
    """Greedy at temperature 0; else temperature, then top-k, then top-p, then a draw from what is left, in fp32."""
    if params.temperature == 0:
        return int(logits.argmax())
    scaled = logits.float() / params.temperature
    if 0 < params.top_k < scaled.shape[0]:
        scaled[scaled < scaled.topk(params.top_k).values[-1]] = -torch.inf
    probabilities = scaled.softmax(-1)
    if params.top_p < 1:
        ordered, ids = probabilities.sort(descending=True)
        # A token stays while the mass before it is under top_p, so the first one always stays.
        is_out = ordered.cumsum(0) - ordered >= params.top_p
        probabilities[ids[is_out]] = 0
    return int(torch.multinomial(probabilities, 1, generator=generator))
