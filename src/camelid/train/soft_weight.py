"""How much of a student's loss is its teacher's, along training and by modality.

Meta wrote that Llama 4's codistillation "dynamically weights the soft and hard targets through training" and
published no formula. These three are ours, or the literature's where said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from camelid.core import MODALITIES, Config
from camelid.core.errors import ConfigError
from camelid.train.schedule import WarmupStableDecay

__all__ = ["WSD", "Constant", "Gap", "SoftWeight", "SoftWeighting", "weighting"]


@dataclass(frozen=True)
class Constant(Config):
    """The same from the first step to the last."""

    weight: float = 0.9
    kind: Literal["constant"] = "constant"

    def __post_init__(self) -> None:
        _check_part("weight", self.weight)


def _default_schedule() -> WarmupStableDecay:
    return WarmupStableDecay(warmup=0.1, decay=0.4, final=1 / 3)


@dataclass(frozen=True)
class WSD(Config):
    """0 → `peak` → a part of it, with the run's progress: warm-up, stable, decay (2410.16215)."""

    peak: float = 0.9
    schedule: WarmupStableDecay = field(default_factory=_default_schedule)
    kind: Literal["wsd"] = "wsd"

    def __post_init__(self) -> None:
        _check_part("peak", self.peak)


@dataclass(frozen=True)
class Gap(Config):
    """a = `highest` · g / (g + `half`), where g is how much better than the student the teacher is, in nats.

    g is a running mean of max(0, CE of the student - CE of the teacher), one per modality, with `memory` as the
    part of the past that a step keeps. It is low while a young teacher knows no more than the student, rises as the
    teacher pulls ahead, and fades when the student has caught up. At g = `half` the weight is half the highest.
    """

    highest: float = 0.9
    half: float = 0.1
    memory: float = 0.98
    kind: Literal["gap"] = "gap"

    def __post_init__(self) -> None:
        _check_part("highest", self.highest)
        if self.half <= 0:
            raise ConfigError(f"half must be above 0 nats, got {self.half}")
        if not 0 <= self.memory < 1:
            raise ConfigError(f"memory must be in [0, 1), got {self.memory}")


SoftWeight = Gap | WSD | Constant


def _check_part(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is a part of the loss and must be in 0..1, got {value}")


class SoftWeighting(Protocol):
    """A strategy at work. `state` is what a resumed run needs of it."""

    state: dict[str, float]

    def __call__(self, progress: float) -> dict[str, float]:
        """The teacher's part of the loss of each modality."""
        ...

    def observe(self, student: Mapping[str, float], teacher: Mapping[str, float]) -> None:
        """Hears both hard losses of a step, of the modalities that it had."""
        ...


def weighting(config: SoftWeight) -> SoftWeighting:
    """The strategy that a configuration names, at its beginning."""
    return _ByGap(config) if isinstance(config, Gap) else _ByProgress(config)


class _ByProgress:
    """The same for all modalities, whatever the losses are."""

    def __init__(self, config: Constant | WSD) -> None:
        self.config = config
        self.state: dict[str, float] = {}

    def __call__(self, progress: float) -> dict[str, float]:
        config = self.config
        weight = config.weight if isinstance(config, Constant) else config.peak * config.schedule(progress)
        return dict.fromkeys(MODALITIES, weight)

    def observe(self, student: Mapping[str, float], teacher: Mapping[str, float]) -> None:
        """Does not listen."""


class _ByGap:
    """The state is g by modality; one that was not seen yet has none, and weight 0."""

    def __init__(self, config: Gap) -> None:
        self.config = config
        self.state: dict[str, float] = {}

    def __call__(self, progress: float) -> dict[str, float]:
        gaps = {name: self.state.get(name, 0.0) for name in MODALITIES}
        return {name: self.config.highest * gap / (gap + self.config.half) for name, gap in gaps.items()}

    def observe(self, student: Mapping[str, float], teacher: Mapping[str, float]) -> None:
        """One step of the running mean; the first one is its beginning."""
        for name in student.keys() & teacher.keys():
            gap = max(0.0, student[name] - teacher[name])
            old = self.state.get(name, gap)
            self.state[name] = self.config.memory * old + (1 - self.config.memory) * gap
