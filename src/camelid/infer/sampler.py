"""Choosing the next token from its logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core import SamplingParams
from camelid.core.errors import ConstraintError, InputError
from camelid.infer.request import TokenLogprob

__all__ = ["Matcher", "Sampled", "Sampler"]

# So many of the likeliest tokens nearly always hold top_p of the mass; to sort a whole vocabulary takes longer.
FEW = 256

# Below it, logits divided by the temperature leave the range of fp32; above it, a draw is as good as greedy.
COLDEST = 1e-4


class Matcher(Protocol):
    """Where one answer stands in its constraint."""

    def forbid(self, logits: Float[Tensor, "vocab"]) -> None:
        """Sets what may not come next to -inf, in place."""

    def accept(self, token_id: int) -> None:
        """This came."""

    def copy(self) -> Matcher:
        """Another that stands at the same place."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing can follow."""


@dataclass(frozen=True)
class Sampled:
    """A token; if asked for, what the model thought of it and of the likeliest, before anything else had a say.

    `is_last`: the constraint is met and lets nothing follow.
    """

    token_id: int
    logprob: TokenLogprob | None = None
    alternatives: tuple[TokenLogprob, ...] = ()
    is_last: bool = False


class Sampler:
    """One sequence's choices: the same whenever it is asked the same, whatever else runs.

    In this order: constraint, bias, penalties, temperature, top-k, top-p, min-p, a draw in fp32. transformers'
    processors do the same.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        vocab_size: int,
        matcher: Matcher | None = None,
    ) -> None:
        if (largest := max((token_id for token_id, _ in params.logit_bias), default=0)) >= vocab_size:
            raise InputError(f"logit_bias has the token {largest}, the vocabulary has {vocab_size}")
        self._params, self._matcher = params, matcher
        self._generator = torch.Generator().manual_seed(params.seed)
        self._bias = _at(vocab_size, params.logit_bias) if params.logit_bias else None
        self._is_seen = self._counts = None
        if params.repetition_penalty != 1:
            self._is_seen = _at(vocab_size, [(token_id, 1.0) for token_id in set(prompt_ids)]).bool()
        if params.presence_penalty or params.frequency_penalty:
            self._counts = torch.zeros(vocab_size)

    def fork(self) -> Sampler:
        """Another that would choose the same from here on, and moves on by itself. It gives no logprobs."""
        twin = copy(self)
        twin._params = replace(self._params, num_logprobs=None)
        twin._generator = self._generator.clone_state()
        twin._matcher = None if self._matcher is None else self._matcher.copy()
        twin._is_seen = None if self._is_seen is None else self._is_seen.clone()
        twin._counts = None if self._counts is None else self._counts.clone()
        return twin

    def __call__(self, logits: Float[Tensor, "vocab"], likeliest: int | None = None) -> Sampled:
        """Chooses, and remembers. The logits are fp32 and stay as they are; `likeliest`: their argmax, if known.

        Raises ConstraintError where the constraint, or a bias of -inf, leaves no token.
        """
        adjusted = self._adjust(logits)
        if adjusted is not logits and adjusted.max() == -math.inf:
            raise ConstraintError("constraint and logit_bias together leave no token")
        if self._params.temperature == 0 and adjusted is logits and likeliest is not None:
            token_id = likeliest
        else:
            token_id = self._choose(adjusted)
        if self._matcher is not None:
            self._matcher.accept(token_id)
        if self._is_seen is not None:
            self._is_seen[token_id] = True
        if self._counts is not None:
            self._counts[token_id] += 1
        is_last = self._matcher is not None and self._matcher.is_finished
        if self._params.num_logprobs is None:
            return Sampled(token_id, is_last=is_last)
        logprobs = logits.log_softmax(-1)
        top = logprobs.topk(min(self._params.num_logprobs, len(logits)))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return Sampled(
            token_id,
            TokenLogprob(token_id, float(logprobs[token_id])),
            tuple(TokenLogprob(other, logprob) for other, logprob in pairs),
            is_last,
        )

    def _adjust(self, logits: Tensor) -> Tensor:
        """Constraint, bias, penalties; a copy if there are any."""
        params = self._params
        if self._matcher is None and self._bias is None and self._is_seen is None and self._counts is None:
            return logits
        logits = logits.clone()
        if self._matcher is not None:
            self._matcher.forbid(logits)
        if self._bias is not None:
            logits += self._bias
        if self._is_seen is not None:
            factor = params.repetition_penalty
            punished = torch.where(logits > 0, logits / factor, logits * factor)
            logits = torch.where(self._is_seen, punished, logits)
        if self._counts is not None:
            logits -= params.frequency_penalty * self._counts
            logits -= params.presence_penalty * (self._counts > 0)
        return logits

    def _choose(self, logits: Tensor) -> int:
        if self._params.temperature <= COLDEST:
            return int(logits.argmax())  # the first of equals
        probabilities, ids = self._filtered(logits)
        drawn = _draw(probabilities, self._generator)
        return drawn if ids is None else int(ids[drawn])

    def _filtered(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Probabilities (not summing to one) of the tokens left, and their ids; None: all of them."""
        params, ids = self._params, None
        logits = logits / params.temperature
        if 0 < params.top_k < len(logits):
            logits, ids = logits.topk(params.top_k)
        probabilities = logits.softmax(-1)
        if params.top_p < 1:
            probabilities, order = _likeliest(probabilities, params.top_p, is_sorted=ids is not None)
            ids = order if ids is None else ids[order]
        if params.min_p:
            probabilities = torch.where(probabilities < params.min_p * probabilities.max(), 0, probabilities)
        return probabilities, ids


def _draw(probabilities: Tensor, generator: torch.Generator) -> int:
    """A place, as likely as the numbers say: `torch.multinomial` draws for each place anew, six times as long."""
    mass = probabilities.cumsum(-1, dtype=torch.float64)
    if not mass[-1] > 0:
        raise RuntimeError("the model's logits are not numbers: nothing can be drawn from them")
    # 24 random bits, scaled in fp64, stay below the whole mass, so the place is always one with mass of its own.
    point = torch.rand(1, generator=generator).double() * mass[-1]
    return int(torch.searchsorted(mass, point, right=True))


def _likeliest(probabilities: Tensor, top_p: float, *, is_sorted: bool) -> tuple[Tensor, Tensor]:
    """The likeliest tokens, likeliest first: as few as hold `top_p` of the mass."""
    if is_sorted:
        ordered, ids = probabilities, torch.arange(len(probabilities))
    else:
        ordered, ids = probabilities.topk(min(FEW, len(probabilities)))
        if ordered.sum() < top_p:
            ordered, ids = probabilities.sort(descending=True)
    # A token stays while the mass before it is under top_p; the first also if fp32 rounds top_p to zero.
    count = max(1, int((ordered.cumsum(0) - ordered < top_p).sum()))
    return ordered[:count], ids[:count]


def _at(size: int, pairs: Sequence[tuple[int, float]]) -> Tensor:
    """Zero but at these places."""
    values, by_place = torch.zeros(size), dict(pairs)
    values[torch.tensor(list(by_place), dtype=torch.int64)] = torch.tensor(list(by_place.values()))
    return values
