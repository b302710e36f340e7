"""Which challenges are worth asking: those that the model sometimes solves, by a running estimate of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from camelid.core.config import Config
from camelid.core.errors import ConfigError
from camelid.data.loader import example_rng

__all__ = ["PoolConfig", "PoolState", "Prompt", "PromptPool"]

MAX_TRIES = 10_000


@dataclass(frozen=True)
class Prompt:
    """A challenge by its task's place in the list of tasks and its number."""

    task: int
    number: int

    @property
    def key(self) -> str:
        """As the estimates are filed."""
        return f"{self.task}:{self.number}"


@dataclass(frozen=True)
class PoolConfig(Config):
    """`size` challenges of each task are in play. One is asked if its estimated pass rate is in `low`..`high`.

    The estimate moves by `memory` towards what each visit gives; what was never asked counts as in between. As the
    model changes, what is outside may come back: a draw in `retry` is asked all the same.
    """

    size: int = 2000
    low: float = 0.05
    high: float = 0.95
    memory: float = 0.5
    retry: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.low < self.high <= 1 and 0 < self.memory <= 1 and 0 < self.retry <= 1):
            raise ConfigError(
                f"a pool needs 0 <= low < high <= 1, and memory and retry in (0, 1]; got {self.low}, {self.high}, "
                f"{self.memory} and {self.retry}"
            )
        if self.size < 1:
            raise ConfigError(f"a pool needs at least 1 challenge, got {self.size}")


@dataclass(frozen=True)
class PoolState(Config):
    """Draws made so far, and the estimates of all that was asked."""

    drawn: int = 0
    rates: dict[str, float] = field(default_factory=dict)


class PromptPool:
    """Draws from the challenges of all tasks, each task equally often before the filter has its say.

    Every draw is a function of the seed and its number, so state and seed together resume it exactly.
    """

    def __init__(self, num_tasks: int, config: PoolConfig, seed: int, state: PoolState = PoolState()) -> None:
        self._num_tasks, self._config, self._seed = num_tasks, config, seed
        self._drawn, self._rates = state.drawn, dict(state.rates)

    @property
    def state(self) -> PoolState:
        """All that is needed to go on."""
        return PoolState(self._drawn, dict(self._rates))

    @property
    def share_outside(self) -> float:
        """Of the challenges that were asked, how many are too easy or too hard now."""
        return sum(not self._is_inside(rate) for rate in self._rates.values()) / max(1, len(self._rates))

    def draw(self, count: int) -> list[Prompt]:
        """Different challenges, each inside the window or lucky."""
        chosen: dict[str, Prompt] = {}
        for _ in range(MAX_TRIES * count):
            rng = example_rng(self._seed, self._drawn)
            self._drawn += 1
            prompt = Prompt(int(rng.integers(self._num_tasks)), int(rng.integers(self._config.size)))
            is_lucky = rng.random() < self._config.retry
            if prompt.key not in chosen and (is_lucky or self._is_inside(self._rates.get(prompt.key))):
                chosen[prompt.key] = prompt
            if len(chosen) == count:
                return list(chosen.values())
        raise ConfigError(
            f"a pool of {self._num_tasks} x {self._config.size} challenges does not give {count} at once"
        )

    def note(self, prompts: Sequence[Prompt], pass_rates: Sequence[float]) -> None:
        """What asking them gave: the share of samples that were right, 0 to 1."""
        for prompt, rate in zip(prompts, pass_rates, strict=True):
            known = self._rates.get(prompt.key)
            memory = self._config.memory
            self._rates[prompt.key] = rate if known is None else known + memory * (rate - known)

    def _is_inside(self, rate: float | None) -> bool:
        return rate is None or self._config.low <= rate <= self._config.high
