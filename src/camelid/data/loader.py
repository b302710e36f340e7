"""Draws examples from a mixture, encodes and packs them, and hands out each batch with the state after it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core.batch import Batch, ModelInput
from camelid.core.config import Config
from camelid.core.errors import ConfigError, DataError, InputError
from camelid.core.messages import Part
from camelid.data.example import Document, Example
from camelid.data.mixture import Mixture
from camelid.data.prefetch import prefetch
from camelid.inputs import ChatFormat

__all__ = ["BatchLoader", "LoaderState", "LossAveraging", "example_rng", "square_averaged"]

logger = logging.getLogger(__name__)

MAX_SKIPPED_SHARE = 0.2
MIN_DRAWN_TO_JUDGE = 200
NUM_WARNINGS = 5

LossAveraging = Literal["token", "square"]


@dataclass(frozen=True)
class LoaderState(Config):
    """Where a loader stands: all that is needed to go on, as JSON.

    `next_example` is the number of the first example not handed out yet; `drawn` and `skipped` count, per
    source, the examples asked for and those of them that could not be used.
    """

    next_example: int = 0
    drawn: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def start(cls) -> LoaderState:
        """The state before the first example."""
        return cls()

    def after(self, source_name: str, *, is_skipped: bool) -> LoaderState:
        """The state after one more example of a source."""
        skipped = _with_one_more(self.skipped, source_name) if is_skipped else self.skipped
        return LoaderState(self.next_example + 1, _with_one_more(self.drawn, source_name), skipped)


def _with_one_more(counts: Mapping[str, int], name: str) -> dict[str, int]:
    return {**counts, name: counts.get(name, 0) + 1}


def example_rng(seed: int, number: int) -> np.random.Generator:
    """The randomness of example `number` of a run: a function of both numbers and of nothing else."""
    return np.random.Generator(np.random.PCG64([seed, number]))


@dataclass(frozen=True)
class BatchLoader:
    """An endless iterable of `(Batch, LoaderState)`: each state resumes right after its batch, bit for bit.

    Examples are taken in order until the next would exceed `batch_tokens`; that one opens the next batch.
    An example longer than `max_document_tokens` (default: a whole batch) is cut when it is a document and
    skipped when it is a conversation. Unreadable examples are skipped, counted and logged; when more than a
    fifth of a source's examples (200 or more drawn) was skipped, iteration raises DataError.
    `averaging` is what texts of different lengths count: "token" is every token alike, "square" is `square_averaged`.
    With `prefetch_depth` 0 everything happens in the calling process.
    """

    mixture: Mixture
    chat_format: ChatFormat
    batch_tokens: int
    seed: int
    max_document_tokens: int | None = None
    averaging: LossAveraging = "token"
    start: LoaderState = field(default_factory=LoaderState.start)
    prefetch_depth: int = 2

    def __post_init__(self) -> None:
        if self.batch_tokens < 2:
            raise ConfigError(f"batch_tokens must be at least 2, got {self.batch_tokens}")
        if not 2 <= self.document_limit <= self.batch_tokens:
            raise ConfigError(
                f"max_document_tokens must be in 2..batch_tokens={self.batch_tokens}, got {self.document_limit}"
            )

    @property
    def document_limit(self) -> int:
        """The most tokens that one example may have."""
        return self.batch_tokens if self.max_document_tokens is None else self.max_document_tokens

    def resumed(self, state: LoaderState) -> BatchLoader:
        """The same loader, going on from a state that it (or its twin in a dead process) handed out."""
        return replace(self, start=state)

    def __iter__(self) -> Iterator[tuple[Batch, LoaderState]]:
        if not self.prefetch_depth:
            yield from self._batches()
            return
        with closing(prefetch(self._batches, self.prefetch_depth)) as batches:
            yield from batches

    def _batches(self) -> Iterator[tuple[Batch, LoaderState]]:
        state, packed, num_tokens = self.start, list[ModelInput](), 0
        while True:
            encoded, after = self._draw(state)
            if encoded is not None and packed and num_tokens + len(encoded) > self.batch_tokens:
                # The state is the one before the example that did not fit: a resumed loader draws it again.
                yield Batch.pack(packed), state
                packed, num_tokens = [], 0
            if encoded is not None:
                packed.append(encoded)
                num_tokens += len(encoded)
            state = after

    def _draw(self, state: LoaderState) -> tuple[ModelInput | None, LoaderState]:
        """The next example, encoded, or None where it had to be skipped; and the state after it."""
        rng = example_rng(self.seed, state.next_example)
        source = self.mixture.choose(rng)
        try:
            example = source.example(state.drawn.get(source.name, 0), rng)
            encoded = replace(self._encode(example), source=source.name)
            if self.averaging == "square":
                encoded = replace(encoded, loss_weights=square_averaged(encoded.loss_weights))
            return encoded, state.after(source.name, is_skipped=False)
        except (InputError, DataError) as error:
            after = state.after(source.name, is_skipped=True)
            _judge_skips(source.name, after, error)
            return None, after

    def _encode(self, example: Example) -> ModelInput:
        if isinstance(example, Document):
            return self._encode_document(example.parts)
        encoded = self.chat_format.encode(example.messages)
        if len(encoded) > self.document_limit:
            raise DataError(f"a conversation of {len(encoded)} tokens, longer than {self.document_limit}")
        return encoded

    def _encode_document(self, parts: tuple[Part, ...]) -> ModelInput:
        """Cuts a long document between its parts while it has pictures, otherwise between tokens."""
        limit = self.document_limit
        encoded = self.chat_format.encode_document(parts)
        while len(encoded) > limit and len(encoded.tiles) and len(parts) > 1:
            parts = parts[:-1]
            encoded = self.chat_format.encode_document(parts)
        if len(encoded) <= limit:
            return encoded
        if len(encoded.tiles):
            raise DataError(f"one picture or clip of {len(encoded)} tokens, longer than {limit}")
        return replace(
            encoded, token_ids=encoded.token_ids[:limit], loss_weights=encoded.loss_weights[:limit]
        )


def square_averaged(loss_weights: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
    """Divides each unbroken run of tokens that count by the square root of its length (InternVL 2.5, 2412.05271).

    Otherwise one page of prose, most of it unpredictable, weighs as much as a hundred names.
    """
    counts = (loss_weights > 0).long()
    run_ids = (counts.diff(prepend=counts.new_zeros(1)) != 0).cumsum(0)
    return loss_weights / torch.bincount(run_ids)[run_ids].sqrt()


def _judge_skips(name: str, state: LoaderState, error: Exception) -> None:
    drawn, skipped = state.drawn[name], state.skipped[name]
    if skipped <= NUM_WARNINGS:
        logger.warning("source %r: skipped example %d (%d of %d): %s", name, drawn - 1, skipped, drawn, error)
    if drawn >= MIN_DRAWN_TO_JUDGE and skipped > MAX_SKIPPED_SHARE * drawn:
        raise DataError(f"source {name!r}: {skipped} of {drawn} examples are unusable; the last: {error}")
