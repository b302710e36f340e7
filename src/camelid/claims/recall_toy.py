"""Associative recall: pairs of a key and its value hidden in noise, and keys whose values are asked for.

Pairs lie at even positions, so that with an even chunk no pair straddles a border. Whether a fact that does can be
recalled is asked apart (`straddling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from camelid.core import Batch, Config, Modality

__all__ = ["NUM_PAIRS", "NUM_QUERIES", "VOCAB_SIZE", "ToyLoader", "recall_problem", "training_batch"]

NUM_KINDS = 32  # of keys, and of values
NUM_NOISE = 64
VOCAB_SIZE = 2 * NUM_KINDS + NUM_NOISE
NUM_PAIRS = 8  # different keys in one document
NUM_QUERIES = 8  # asked one after the other at its end, each followed by its value


def training_batch(documents: int, length: int, generator: torch.Generator) -> Batch:
    """Documents in which a quarter of the positions are keys: the loss is on values whose key came before."""
    ids = _noise((documents, length), generator)
    num_slots = length // 4
    order = torch.rand(documents, length // 2, generator=generator).argsort(1)
    slots = (2 * order[:, :num_slots]).sort(1).values
    keys, values = _pairs(documents, generator)
    which = torch.randint(NUM_PAIRS, (documents, num_slots), generator=generator)
    ids.scatter_(1, slots, keys.gather(1, which))
    ids.scatter_(1, slots + 1, values.gather(1, which))
    firsts = torch.stack([(which == pair).long().cumsum(1) for pair in range(NUM_PAIRS)], -1)
    is_known = firsts.gather(2, which[..., None])[..., 0] > 1
    modality: Modality = "text"
    weights = torch.zeros(documents, length).scatter_(1, slots, is_known.float())
    return Batch(
        token_ids=ids.flatten(),
        target_ids=ids.roll(-1, 1).flatten(),
        loss_weights=weights.flatten(),
        tiles=torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        patch_positions=torch.empty(0, dtype=torch.int64),
        document_lengths=(length,) * documents,
        document_modalities=(modality,) * documents,
    )


def recall_problem(
    length: int, generator: torch.Generator, straddled_chunk: int | None = None
) -> tuple[Int[Tensor, "length"], Int[Tensor, "queries"]]:
    """A document that shows each pair once, anywhere, and ends with the queries; and the right values.

    With `straddled_chunk` every key is the last token of a chunk of that size and its value the first of the next.
    """
    ids = _noise((length,), generator)
    body = length - 2 * NUM_QUERIES
    if straddled_chunk is None:
        slots = 2 * _different(NUM_PAIRS, body // 2, generator)
    else:
        num_borders = body // straddled_chunk
        slots = straddled_chunk * (1 + _different(min(NUM_PAIRS, num_borders), num_borders, generator)) - 1
    keys, values = (x[0, : len(slots)] for x in _pairs(1, generator))
    ids[slots], ids[slots + 1] = keys, values
    asked = torch.randperm(NUM_QUERIES, generator=generator) % len(slots)
    ids[body::2], ids[body + 1 :: 2] = keys[asked], values[asked]
    return ids, values[asked]


@dataclass(frozen=True)
class ToyState(Config):
    """The number of batches that were handed out."""

    batches: int = 0


@dataclass(frozen=True)
class ToyLoader:
    """Endless training batches; each is a function of the seed and its number."""

    documents: int
    length: int
    seed: int
    start: int = 0

    @classmethod
    def at(cls, documents: int, length: int, seed: int, state: Mapping[str, Any] | None) -> ToyLoader:
        """From the beginning, or after a state that was handed out."""
        return cls(documents, length, seed, 0 if state is None else ToyState.from_dict(dict(state)).batches)

    def __iter__(self) -> Iterator[tuple[Batch, ToyState]]:
        number = self.start
        while True:
            generator = torch.Generator().manual_seed(1_000_003 * self.seed + number)
            number += 1
            yield training_batch(self.documents, self.length, generator), ToyState(number)


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2 * NUM_KINDS, VOCAB_SIZE, shape, generator=generator)


def _pairs(documents: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Different keys for each document, and a value for each key."""
    keys = torch.rand(documents, NUM_KINDS, generator=generator).argsort(1)[:, :NUM_PAIRS]
    values = torch.randint(NUM_KINDS, 2 * NUM_KINDS, (documents, NUM_PAIRS), generator=generator)
    return keys, values


def _different(count: int, below: int, generator: torch.Generator) -> Tensor:
    """Different numbers, sorted by nothing; drawn one by one, for a million places are too many to shuffle."""
    if below < 4 * count:
        return torch.randperm(below, generator=generator)[:count]
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[int(torch.randint(below, (), generator=generator))] = None
    return torch.tensor(list(drawn))
