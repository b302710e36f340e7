"""Warm-up, stable, decay: the learning rate over a run."""

from __future__ import annotations

from dataclasses import dataclass

from camelid.core import Config
from camelid.core.errors import ConfigError

__all__ = ["WarmupStableDecay"]


@dataclass(frozen=True)
class WarmupStableDecay(Config):
    """Multiplier of the learning rate by progress in 0..1: linear up, flat, then linear down to `final`.

    It follows progress instead of steps, so that a run with a time budget ends with a finished decay.
    """

    warmup: float = 0.02
    decay: float = 0.4
    final: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.warmup and 0 <= self.decay and self.warmup + self.decay <= 1):
            raise ConfigError(f"warmup {self.warmup} and decay {self.decay} must be parts of one run")

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        left = 1.0 - progress
        if left < self.decay:
            return self.final + (1.0 - self.final) * max(left, 0.0) / self.decay
        return 1.0
