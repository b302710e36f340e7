"""Choosing the next token from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core import SamplingParams
from camelid.infer.request import TokenLogprob

__all__ = ["Sampled", "Sampler", "sample"]


@dataclass(frozen=True)
class Sampled:
    """A token, and what the model thought of it and of others before any filter, if that was asked for."""

    token_id: int
    logprob: TokenLogprob | None = None
    alternatives: tuple[TokenLogprob, ...] = ()


class Sampler:
    """One sequence's choices: the same whenever it is asked the same, whatever else runs."""

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int], vocab_size: int) -> None:
        self._params = params
        self._generator = torch.Generator().manual_seed(params.seed)

    def __call__(self, logits: Float[Tensor, "vocab"]) -> Sampled:
        return Sampled(sample(logits, self._params, self._generator))


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
