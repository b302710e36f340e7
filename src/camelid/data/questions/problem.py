"""One thing to solve, with its answer, and its blind twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from camelid.core.messages import ImagePart, Message, Part, VideoPart

__all__ = ["Problem", "blind_twins", "is_same_answer"]


@dataclass(frozen=True)
class Problem:
    """Messages to answer and the answer that is right.

    `choices` are all answers to choose from, the right one among them, or None for an open question;
    `concept` is the code point of what is shown, such as "1f431", or "" where it is not one thing.
    """

    messages: tuple[Message, ...]
    answer: str
    kind: str
    choices: tuple[str, ...] | None = None
    concept: str = ""

    def with_visuals_of(self, other: Problem) -> Problem:
        """The same question and answer about another problem's pictures and clips.

        Both must have as many of them, one after another.
        """
        visuals = iter([part for message in other.messages for part in message.parts if _is_visual(part)])
        messages = tuple(
            replace(
                message, parts=tuple(next(visuals) if _is_visual(part) else part for part in message.parts)
            )
            for message in self.messages
        )
        assert next(visuals, None) is None
        return replace(self, messages=messages)


def is_same_answer(answer: str, truth: str) -> bool:
    """Exact match but for case, outer blanks and a final full stop."""
    return _plain(answer) == _plain(truth)


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def blind_twins(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """Each problem with the pictures of a random other one whose answer differs (if there is one).

    A model that scores as well on the twins as on the problems has not looked.
    """
    rng = np.random.default_rng(seed)
    twins = []
    for problem in problems:
        others = [other for other in problems if other.answer != problem.answer]
        twins.append(problem.with_visuals_of(others[int(rng.integers(len(others)))]) if others else problem)
    return twins


def _is_visual(part: Part) -> bool:
    return isinstance(part, ImagePart | VideoPart)
