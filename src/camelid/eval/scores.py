"""Counting right answers, with an interval that says how much the count can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from camelid.core import Config

__all__ = ["Compression", "Score", "wilson_interval"]


def wilson_interval(num_right: int, num_problems: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion; (0, 1) without any problem."""
    if num_problems == 0:
        return 0.0, 1.0
    share = num_right / num_problems
    centre = share + z * z / (2 * num_problems)
    spread = z * math.sqrt(share * (1 - share) / num_problems + z * z / (4 * num_problems**2))
    scale = 1 + z * z / num_problems
    # Rounding may leave a hair outside the unit interval at shares 0 and 1.
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True)
class Score(Config):
    """Right answers of one kind of problem; `num_right_blind`: to the same questions about other pictures."""

    kind: str
    num_problems: int
    num_right: int
    num_right_blind: int

    @property
    def accuracy(self) -> float:
        return self.num_right / max(self.num_problems, 1)

    @property
    def blind_accuracy(self) -> float:
        return self.num_right_blind / max(self.num_problems, 1)

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.num_right, self.num_problems)


@dataclass(frozen=True)
class Compression(Config):
    """Bits per UTF-8 byte of held-out text, with the 95 % interval of a bootstrap over documents."""

    num_documents: int
    bits_per_byte: float
    low: float
    high: float

    @classmethod
    def of(cls, nats: Sequence[float], num_bytes: Sequence[int], draws: int = 1000) -> Compression:
        """From each document's -ln p and length; documents are drawn again with a fixed seed."""
        bits, sizes = np.array(nats) / math.log(2), np.array(num_bytes)
        picks = np.random.default_rng(0).integers(len(bits), size=(draws, len(bits)))
        low, high = np.percentile(bits[picks].sum(1) / sizes[picks].sum(1), (2.5, 97.5))
        return cls(len(bits), float(bits.sum() / sizes.sum()), float(low), float(high))
