"""Recall: pairs of a name and a number in a long list, one of which is asked for at its end."""

from __future__ import annotations

from camelid.core.messages import Message
from camelid.data.questions.problem import is_same_answer
from camelid.data.splits import Split
from camelid.data.verifiable.challenge import Challenge, challenge_rng

__all__ = ["MAX_PAIRS", "RecallTask"]

NAMES = (
    "apple", "bread", "cat", "clock", "cloud", "dog", "door", "fish", "flower", "hat", "horse", "house", "key", "leaf",
    "moon", "mouse", "pen", "ring", "river", "road", "shoe", "snow", "star", "sun", "table", "train", "tree", "wind",
)  # fmt: skip
MAX_PAIRS = len(NAMES)


class RecallTask:
    """`num_pairs` pairs, all names different; about five tokens each, so the number decides the length."""

    def __init__(self, num_pairs: int = 6) -> None:
        assert 2 <= num_pairs <= MAX_PAIRS
        self.name, self._num_pairs = f"recall-{num_pairs}", num_pairs

    def challenge(self, number: int, split: Split = "train") -> Challenge:
        """The same list and question whenever it is asked for."""
        rng = challenge_rng(split, number, self._num_pairs)
        names = [NAMES[place] for place in rng.permutation(len(NAMES))[: self._num_pairs]]
        values = [str(value) for value in rng.integers(10, 100, self._num_pairs)]
        asked = int(rng.integers(self._num_pairs))
        listed = ", ".join(f"{name} is {value}" for name, value in zip(names, values, strict=True))
        truth = values[asked]
        message = Message.of("user", f"{listed}. What is {names[asked]}?")
        return Challenge(
            (message,), lambda said: float(is_same_answer(said, truth)), Message.of("assistant", truth)
        )
