"""A tensor that is still on disk: its shape and dtype are known, its bytes are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LazyTensor", "WeightMap", "in_memory"]


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
