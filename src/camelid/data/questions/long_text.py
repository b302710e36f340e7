"""Long texts: novels read on, and facts hidden in them whose answers are exact.

`Recall` asks for one of several numbers told somewhere in the text; `Tracking` for the value of a name at the end of a
chain of "Let A be B", which takes several looks back. Both stand among sentences of a novel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from camelid.core.errors import DataError
from camelid.core.messages import Message, TextPart
from camelid.data.epochs import epoch_order
from camelid.data.example import Conversation, Document
from camelid.data.questions.problem import Problem
from camelid.data.questions.text import PARAGRAPH, SENTENCE_END
from camelid.data.starter import Prose as Chapter

__all__ = ["LongProse", "Novels", "Recall", "Tracking", "recall_problems", "tracking_problems"]

NUM_FACTS = 6
NUM_CHAINS, NUM_HOPS = 3, 3
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
FACT, FACT_QUESTION = "The number of {name} is {number}.", "What is the number of {name}?"
SET, COPY, SET_QUESTION = "Let {name} be {value}.", "Let {name} be {value}.", "What is the value of {name}?"


class Novels:
    """Chapters joined book by book. DataError without any."""

    def __init__(self, chapters: Sequence[Chapter]) -> None:
        self.books = tuple(
            "\n\n".join(chapter.text for chapter in group)
            for _, group in groupby(chapters, key=lambda c: c.title)
        )
        if not self.books:
            raise DataError("long texts need at least one chapter, got none")
        self.starts = tuple(
            (book, match.start())
            for book, text in enumerate(self.books)
            for match in PARAGRAPH.finditer(text)
        )

    def window(self, number: int, num_chars: int) -> str:
        """`num_chars` characters from paragraph `number` on; after its last page a book begins again."""
        book, start = self.starts[number]
        text = self.books[book]
        rounds = math.ceil((start + num_chars) / len(text))
        return (text if rounds == 1 else "\n\n".join([text] * rounds))[start : start + num_chars]


@dataclass(eq=False)
class _Long:
    """What all sources of long text share: novels, and lengths log-uniform between two bounds, in characters."""

    novels: Novels
    min_chars: int
    max_chars: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.min_chars <= self.max_chars:
            raise DataError(f"long texts of {self.min_chars} to {self.max_chars} characters cannot be")

    def _window(self, index: int, rng: np.random.Generator) -> str:
        low, high = math.log(self.min_chars), math.log(self.max_chars)
        num_chars = min(self.max_chars, round(math.exp(rng.uniform(low, high))))
        return self.novels.window(epoch_order(len(self.novels.starts), index, self.seed), num_chars)


@dataclass(eq=False)
class LongProse(_Long):
    """Pages of a novel in a row, over the borders of chapters."""

    name: str = "long-prose"

    def example(self, index: int, rng: np.random.Generator) -> Document:
        """A document that begins with paragraph `index` of the epoch."""
        return Document((TextPart(self._window(index, rng).rstrip()),))


@dataclass(eq=False)
class Recall(_Long):
    """A number told somewhere in a long text."""

    names: tuple[str, ...] = ()
    name: str = "recall"

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """Several facts in a novel, one of them asked for."""
        facts, question, answer = _facts(self.names, rng)
        return _conversation(
            _hide(facts, _places(len(facts), rng), self._window(index, rng)), question, answer
        )


@dataclass(eq=False)
class Tracking(_Long):
    """The value of a name at the end of a chain of assignments in a long text."""

    name: str = "tracking"

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """Several chains in a novel, the end of one asked for."""
        steps, question, answer = _chains(rng)
        return _conversation(
            _hide(steps, _places(len(steps), rng), self._window(index, rng)), question, answer
        )


def recall_problems(
    novels: Novels, names: Sequence[str], num_chars: int, count: int, seed: int
) -> list[Problem]:
    """Recall at one length; the facts asked for lie evenly from the beginning of the text to its end."""
    problems = []
    for number in range(count):
        rng = np.random.default_rng([seed, num_chars, number])
        facts, question, answer = _facts(names, rng)
        asked = next(place for place, fact in enumerate(facts) if fact.endswith(f" {answer}."))
        places = _places(len(facts), rng)
        places[asked] = (number + 0.5) / count
        problems.append(
            _problem(_long_conversation(novels, facts, places, num_chars, question, answer, rng), "recall")
        )
    return problems


def tracking_problems(novels: Novels, num_chars: int, count: int, seed: int) -> list[Problem]:
    """Chains of assignments at one length."""
    problems = []
    for number in range(count):
        rng = np.random.default_rng([seed, num_chars, number])
        steps, question, answer = _chains(rng)
        places = _places(len(steps), rng)
        problems.append(
            _problem(_long_conversation(novels, steps, places, num_chars, question, answer, rng), "tracking")
        )
    return problems


def _long_conversation(
    novels: Novels,
    facts: Sequence[str],
    places: Sequence[float],
    num_chars: int,
    question: str,
    answer: str,
    rng: np.random.Generator,
) -> Conversation:
    window = novels.window(int(rng.integers(len(novels.starts))), num_chars)
    return _conversation(_hide(facts, places, window), question, answer)


def _problem(conversation: Conversation, kind: str) -> Problem:
    asked, answered = conversation.messages
    (answer,) = answered.parts
    assert isinstance(answer, TextPart)
    return Problem((asked,), answer.text, kind)


def _conversation(text: str, question: str, answer: str) -> Conversation:
    return Conversation((Message.of("user", f"{text}\n\n{question}"), Message.of("assistant", answer)))


def _facts(names: Sequence[str], rng: np.random.Generator) -> tuple[list[str], str, str]:
    """Facts with different names and numbers, a question about one of them, and its answer."""
    chosen = [names[int(place)] for place in rng.permutation(len(names))[:NUM_FACTS]]
    numbers = rng.permutation(900)[: len(chosen)] + 100
    facts = [FACT.format(name=name, number=number) for name, number in zip(chosen, numbers, strict=True)]
    asked = int(rng.integers(len(chosen)))
    return facts, FACT_QUESTION.format(name=chosen[asked]), str(numbers[asked])


def _chains(rng: np.random.Generator) -> tuple[list[str], str, str]:
    """Assignments of several chains, shuffled together with each chain in order; a question about one's end."""
    codes = [
        f"{LETTERS[n // len(LETTERS)]}{LETTERS[n % len(LETTERS)]}" for n in rng.permutation(len(LETTERS) ** 2)
    ]
    values = rng.permutation(900)[:NUM_CHAINS] + 100
    turn = rng.permutation(np.repeat(np.arange(NUM_CHAINS), NUM_HOPS))
    last: dict[int, str] = {}
    steps = []
    for chain, code in zip(turn.tolist(), codes, strict=False):
        steps.append(
            COPY.format(name=code, value=last[chain])
            if chain in last
            else SET.format(name=code, value=values[chain])
        )
        last[chain] = code
    asked = int(rng.integers(NUM_CHAINS))
    return steps, SET_QUESTION.format(name=last[asked]), str(values[asked])


def _places(count: int, rng: np.random.Generator) -> list[float]:
    """Where in the text facts stand, 0..1, in their order."""
    return sorted(rng.random(count).tolist())


def _hide(facts: Sequence[str], places: Sequence[float], text: str) -> str:
    """The text with each fact put after the first end of a sentence beyond its place, or else at the end."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    cuts = [next((end for end in ends if end >= place * len(text)), len(text)) for place in places]
    pieces, start = [], 0
    for cut, fact in sorted(zip(cuts, facts, strict=True), key=lambda pair: pair[0]):
        pieces.append(f"{text[start:cut].rstrip()} {fact} ")
        start = cut
    return "".join([*pieces, text[start:]]).strip()
