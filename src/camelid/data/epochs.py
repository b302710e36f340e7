"""Walking a finite data set in shuffled epochs, by arithmetic instead of state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["epoch_order", "permutation"]


def epoch_order(length: int, index: int, seed: int) -> int:
    """Which of `length` items comes at draw `index`: every epoch is a permutation of its own."""
    assert length > 0
    assert index >= 0
    epoch, place = divmod(index, length)
    return int(permutation(length, seed, epoch)[place])


@lru_cache(maxsize=32)
def permutation(length: int, *key: int) -> np.ndarray:
    """The shuffled numbers 0..length-1 that belong to a key. Cached: a data set uses one at a time."""
    return np.random.Generator(np.random.PCG64([length, *key])).permutation(length)
