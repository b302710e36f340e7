"""What a training run has shown so far, boiled down to what a person watches."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from camelid.train import DistillMetrics
from camelid.train.step import StepMetrics

__all__ = ["TrainingRecord", "spoken_seconds"]

WINDOW_STEPS = 10


@dataclass
class TrainingRecord:
    """Loss histories, throughput over the last steps, expert loads and the time that is left."""

    clock: Callable[[], float] = monotonic
    step: int = 0
    progress: float = 0.0
    lr: float = 0.0
    grad_norm: float = 0.0
    loss: float = float("nan")
    num_skipped_examples: int = 0
    num_skipped_steps: int = 0
    distill: DistillMetrics | None = None
    losses: dict[str, list[float]] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    expert_shares: list[list[float]] = field(default_factory=list)
    recent: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=WINDOW_STEPS))

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._start_progress: float | None = None

    def add(self, metrics: StepMetrics) -> None:
        """Takes in one step."""
        if self._start_progress is None:
            self._start_progress = metrics.progress
            self._started = self.clock() - metrics.seconds
        self.step, self.progress = metrics.step, metrics.progress
        self.num_skipped_examples = metrics.num_skipped_examples
        self.num_skipped_steps += metrics.is_skipped
        self.loss, self.lr, self.grad_norm = metrics.loss, metrics.lr, metrics.grad_norm
        self.distill = metrics.distill or self.distill
        for modality, loss in metrics.loss_by_modality.items():
            if math.isfinite(loss):
                self.losses.setdefault(modality, []).append(loss)
        for name, value in metrics.numbers.items():
            if math.isfinite(value):
                self.numbers.setdefault(name, []).append(value)
        self.expert_shares = [_load(layer) for layer in metrics.expert_counts]
        self.recent.append((metrics.seconds, metrics.num_tokens, metrics.num_tiles))

    @property
    def tokens_per_second(self) -> float:
        """Over the last steps."""
        return sum(tokens for _, tokens, _ in self.recent) / (sum(item[0] for item in self.recent) or 1.0)

    @property
    def tiles_per_second(self) -> float:
        """Over the last steps."""
        return sum(tiles for *_, tiles in self.recent) / (sum(item[0] for item in self.recent) or 1.0)

    @property
    def seconds_left(self) -> float | None:
        """By the progress made since this process started; None before there is any."""
        made = self.progress - (self._start_progress or 0.0)
        if made <= 0.0:
            return None
        return (self.clock() - self._started) * (1.0 - self.progress) / made

    def spoken_teaching(self) -> str:
        """The last step's teacher in a few words; nothing without one."""
        if self.distill is None:
            return ""
        return "teacher " + " ".join(
            f"{name} {loss:.3f} ({self.distill.soft_weight[name]:.0%} soft, KL {self.distill.kl[name]:.3f})"
            for name, loss in self.distill.teacher_loss.items()
        )

    def recent_loss(self, modality: str) -> float:
        """Mean over the last steps that had this modality."""
        last = self.losses[modality][-WINDOW_STEPS:]
        return sum(last) / len(last)


def _load(layer: Sequence[Sequence[int]]) -> list[float]:
    """Each expert's tokens of all modalities, as a multiple of a fair share."""
    totals = [sum(column) for column in zip(*layer, strict=True)]
    fair = sum(totals) / len(totals) or 1.0
    return [total / fair for total in totals]


def spoken_seconds(seconds: float | None) -> str:
    """A duration as 3:07 or 1:02:33."""
    if seconds is None:
        return "–:––"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
