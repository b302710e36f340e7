"""A claim: what we say, the rule that decides it, and what measured arms have to show for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from camelid.core import Config
from camelid.core.errors import ConfigError, TrainingError

__all__ = ["SEEDS", "Claim", "Evidence", "Form", "Measurement", "OnProgress", "Verdict"]

Form = Literal["full", "smoke"]
OnProgress = Callable[[float, str], None]  # the part of an arm's run that is done, 0..1, and what it does now
SEEDS = (0, 1, 2)
C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Measurement(Config):
    """What one arm gave with one seed: single numbers, and curves as (x, y) points in the order of x."""

    arm: str
    seed: int
    config_digest: str
    numbers: dict[str, float]
    curves: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        ys = {f"{name} at {x:g}": y for name, points in self.curves.items() for x, y in points}
        if bad := [name for name, value in (self.numbers | ys).items() if not math.isfinite(value)]:
            raise TrainingError(f"{self.arm}, seed {self.seed}: {', '.join(bad)} is not finite")


@dataclass(frozen=True)
class Verdict(Config):
    """Whether the rule holds, what was measured as one sentence, and the numbers that decided."""

    passed: bool
    measured: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class Evidence:
    """All arms with all seeds; a rule reads them here. ConfigError names what is missing."""

    measurements: tuple[Measurement, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """Their names, as they come."""
        return tuple(dict.fromkeys(m.arm for m in self.measurements))

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, ascending."""
        return tuple(sorted({m.seed for m in self.measurements}))

    def of(self, arm: str, number: str) -> tuple[float, ...]:
        """One number of an arm in the order of the seeds."""
        return tuple(_value(m.numbers, number, m) for m in self._runs(arm))

    def at(self, arm: str, curve: str, x: float) -> tuple[float, ...]:
        """A curve's value at x, in the order of the seeds."""
        return tuple(_value(dict(m.curves.get(curve, ())), x, m) for m in self._runs(arm))

    def points(self, arm: str, curve: str) -> dict[float, tuple[float, ...]]:
        """A curve: for each x the values of the seeds; nothing for an arm that has no such curve."""
        points: dict[float, tuple[float, ...]] = {}
        for m in self._runs(arm):
            for x, y in m.curves.get(curve, ()):
                points[x] = (*points.get(x, ()), y)
        return dict(sorted(points.items()))

    def _runs(self, arm: str) -> Sequence[Measurement]:
        runs = sorted((m for m in self.measurements if m.arm == arm), key=lambda m: m.seed)
        if not runs:
            raise ConfigError(f"no arm {arm!r} was measured, only {', '.join(self.arms) or 'none'}")
        return runs


K = TypeVar("K", str, float)


def _value(values: Mapping[K, float], key: K, run: Measurement) -> float:
    if key not in values:
        raise ConfigError(f"{run.arm}, seed {run.seed}: no {key}, only {', '.join(map(str, values))}")
    return values[key]


@dataclass(frozen=True)
class Claim(Generic[C]):
    """One claim, whole. `rule` says in one sentence what `judge` computes; both are fixed before the first run.

    `arms` gives each arm's configuration in a form: all that decides its numbers, but for the seed. `measure` runs
    one of them, keeping in the folder that it is given whatever lets it go on after an interruption. `draw` makes
    the figure, as SVG. `tried` is what was done about a failure, in the order in which it was.
    """

    name: str
    statement: str
    setup: str
    rule: str
    arms: Callable[[Form], Mapping[str, C]]
    measure: Callable[[C, int, Path, OnProgress], Measurement]
    judge: Callable[[Evidence], Verdict]
    draw: Callable[[Evidence], str]
    tried: tuple[str, ...] = ()
