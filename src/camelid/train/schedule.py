"""Warm-up, stable, decay: the learning rate over a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from camelid.core import Config
from camelid.core.errors import ConfigError

__all__ = ["WarmupStableDecay"]


@dataclass(frozen=True)
class WarmupStableDecay(Config):
    """Multiplier of the learning rate by progress in 0..1: linear up, flat, then down to `final`.

    `warmup` and `decay` are parts of the run. With x the part of the decay that is done, `linear` goes down by x
    and `sqrt` by √x, which is steeper at first (2405.18392). It follows progress instead of steps, so that a run
    with a time budget ends with a finished decay.
    """

    warmup: float = 0.02
    decay: float = 0.4
    final: float = 0.0
    decay_shape: Literal["linear", "sqrt"] = "linear"

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.decay < 0 or self.warmup + self.decay > 1:
            raise ConfigError(f"warmup {self.warmup} and decay {self.decay} must be parts of one run")
        if not 0 <= self.final <= 1:
            raise ConfigError(f"final must be in 0..1, got {self.final}")

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        left = 1.0 - progress
        if left >= self.decay:
            return 1.0
        done = min(1.0 - left / self.decay, 1.0)
        return 1.0 - (1.0 - self.final) * (done if self.decay_shape == "linear" else done**0.5)
