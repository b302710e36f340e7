"""A tensor that is still on disk: its shape and dtype are known, its bytes are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = ["LazyTensor", "WeightMap", "bytes_of", "in_memory", "read_ahead"]


@dataclass(frozen=True)
class LazyTensor:
    """`read()` gives the whole tensor, `read(i)` only row i of its first dimension, for which less is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[int | None], Tensor]
    source: str
    """Where it comes from, for messages: a file and the name in it."""
    map: Callable[[], Tensor] | None = None
    """A view of the file itself, where there is one: the system reads it page by page, and may forget it again."""

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    @property
    def numel(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    def pieces(self) -> list[Callable[[], Tensor]]:
        """What reads it bit by bit, in order: experts one by one, anything else whole."""
        if len(self.shape) < 3:
            return [partial(self.read, None)]
        return [partial(self.read, row) for row in range(self.shape[0])]

    def to(self, dtype: torch.dtype) -> LazyTensor:
        """The same, cast while it is read."""
        if dtype == self.dtype:
            return self
        return LazyTensor(self.shape, dtype, lambda row: self.read(row).to(dtype), self.source)


WeightMap = Mapping[str, LazyTensor]


def in_memory(tensor: Tensor, source: str = "memory") -> LazyTensor:
    """A tensor that is there already."""
    tensor = tensor.detach()
    return LazyTensor(
        tuple(tensor.shape), tensor.dtype, lambda row: tensor if row is None else tensor[row], source
    )


def read_ahead(reads: Sequence[Callable[[], Tensor]]) -> Iterator[Tensor]:
    """Each tensor in order, contiguous; a thread reads the next meanwhile.

    Two are held at a time, if whoever takes one lets go of it before asking for the next.
    """
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(reads[0]) if reads else None
        for following in (*reads[1:], None):
            if upcoming is None:
                return
            value = upcoming.result().contiguous()
            upcoming = None if following is None else reader.submit(following)
            yield value
            del value


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor that is not empty."""
    flat: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(flat)
