"""A problem that checks its own answers, and what makes such problems without end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from camelid.core.messages import Message
from camelid.data.example import Conversation
from camelid.data.splits import Split

__all__ = ["Challenge", "Task", "TaskExamples", "challenge_rng"]

# No run's seed makes the numbers of the other split.
STREAMS: dict[Split, int] = {"train": 0x7E57, "held_out": 20_250_405}


@dataclass(frozen=True)
class Challenge:
    """Messages to answer, what an answer's text is worth, from 0 to 1, and one answer that is worth 1."""

    messages: tuple[Message, ...]
    reward: Callable[[str], float]
    answer: Message


@runtime_checkable
class Task(Protocol):
    """An endless supply of challenges of one kind, each a function of its split and number and of nothing else."""

    name: str

    def challenge(self, number: int, split: Split = "train") -> Challenge: ...


class TaskExamples:
    """The same challenges with their answers, as a source of examples for fine-tuning."""

    def __init__(self, task: Task) -> None:
        self._task, self.name = task, task.name

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """Challenge `index` of the training split; nothing is left to chance."""
        challenge = self._task.challenge(index)
        return Conversation((*challenge.messages, challenge.answer))


def challenge_rng(split: Split, number: int, *kind: int) -> np.random.Generator:
    """The randomness of one challenge."""
    return np.random.Generator(np.random.PCG64([STREAMS[split], number, *kind]))
