"""Tasks of reasoning-gym (the extra `rl`): generated puzzles, each kind with a scorer of its own."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from camelid.core.errors import ConfigError
from camelid.core.messages import Message
from camelid.data.splits import Split
from camelid.data.verifiable.challenge import STREAMS, Challenge

__all__ = ["GymTask"]

PREFIX = "gym:"
SIZES: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "letter_counting": {"min_words": 1, "max_words": 3},
    "gcd": {"min_value": 1, "max_value": 20},
    "number_sorting": {"min_numbers": 2, "max_numbers": 3, "min_decimals": 0, "max_decimals": 0},
    "spell_backward": {"min_word_len": 3, "max_word_len": 4},
}
"""How hard: what a nano model may solve. Tasks that are not listed are as hard as reasoning-gym has them."""


class GymTask:
    """One of its data sets; `gym:NAME`. ConfigError without the package, or for a name that it does not know."""

    def __init__(self, name: str) -> None:
        self.name = f"{PREFIX}{name}"
        self._dataset_name = name
        _ = self._datasets  # complains now rather than in the first step

    @cached_property
    def _datasets(self) -> dict[Split, Any]:
        try:
            import reasoning_gym
        except ImportError as error:
            raise ConfigError(
                f"the task {self.name} needs reasoning-gym: pip install 'camelid[rl]' ({error})"
            ) from error
        try:
            return {
                split: reasoning_gym.create_dataset(
                    self._dataset_name, seed=seed, size=2**31, **SIZES.get(self._dataset_name, {})
                )
                for split, seed in STREAMS.items()
            }
        except (ValueError, AssertionError, TypeError) as error:
            raise ConfigError(f"reasoning-gym makes no {self._dataset_name}: {error}") from error

    def challenge(self, number: int, split: Split = "train") -> Challenge:
        """The same puzzle whenever it is asked for; its scorer's grades above 0 for wrong answers are kept."""
        dataset = self._datasets[split]
        entry = dataset[number]

        def reward(said: str) -> float:
            return min(1.0, max(0.0, float(dataset.score_answer(answer=said.strip(), entry=entry))))

        return Challenge(
            (Message.of("user", entry["question"]),), reward, Message.of("assistant", str(entry["answer"]))
        )
