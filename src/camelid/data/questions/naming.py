"""What is this? In twelve languages, and what kind of thing it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from camelid.core.config import Config
from camelid.core.messages import ImagePart, Message, Part, TextPart
from camelid.data.augment import AugmentConfig, augment_drawing, on_white
from camelid.data.epochs import epoch_order
from camelid.data.example import Document, Example
from camelid.data.questions.cast import Cast
from camelid.data.questions.problem import Problem
from camelid.data.questions.turns import Turn, talk
from camelid.data.questions.wording import (
    CATEGORY_QUESTIONS,
    GROUP_NAMES,
    LANGUAGES,
    NAME_IN_LANGUAGE,
    NAME_QUESTIONS,
    ask_which,
    choose,
    choose_language,
)
from camelid.data.starter import Concept

__all__ = ["Naming", "NamingConfig", "category_problems", "naming_problems"]


@dataclass(frozen=True)
class NamingConfig(Config):
    """What is asked about a drawing, as shares.

    `english` of the questions are in English. `documents` are captioned pictures instead of conversations;
    of the conversations, `text_first` have the question before the picture, `name_first` begin with the plain
    question for the name, and `one_turn` end after their first answer. What is asked later can often be answered
    from what was said before.
    """

    english: float = 0.96
    documents: float = 0.02
    text_first: float = 0.05
    name_first: float = 0.88
    one_turn: float = 0.94


class Naming:
    """Drawings with their names, walking through all drawings in shuffled epochs."""

    name = "naming"

    def __init__(
        self,
        cast: Cast,
        seed: int = 0,
        augment: AugmentConfig = AugmentConfig(),
        config: NamingConfig = NamingConfig(),
    ) -> None:
        self._cast = cast
        self._seed = seed
        self._augment = augment
        self._config = config

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """A conversation of one to four turns about a picture, or a document of captioned pictures."""
        concept, drawing = self._cast.pair(epoch_order(self._cast.num_drawings, index, self._seed))
        if rng.random() < self._config.documents:
            return self._document(concept, drawing, rng)
        picture = ImagePart(augment_drawing(drawing, rng, self._augment))
        num_turns = 1 if rng.random() < self._config.one_turn else int(rng.integers(2, 5))
        turns = self._turns(concept, rng)[:num_turns]
        return talk(turns, [picture], is_shown_last=rng.random() < self._config.text_first)

    def _document(self, concept: Concept, drawing: Image.Image, rng: np.random.Generator) -> Document:
        """One to four pictures, each with its caption after it, in one language."""
        language = choose_language(self._config.english, rng)
        parts: list[Part] = []
        for _ in range(1 + int(rng.integers(4))):
            picture = ImagePart(augment_drawing(drawing, rng, self._augment))
            parts += [picture, TextPart(f" {concept.names[language]}"), TextPart("\n")]
            concept, drawing = self._cast.pair(int(rng.integers(self._cast.num_drawings)))
        return Document(tuple(parts[:-1]))

    def _turns(self, concept: Concept, rng: np.random.Generator) -> list[Turn]:
        """Four different turns, the plain question for the name first or all in random order."""
        language = choose_language(self._config.english, rng)
        others = [code for code in LANGUAGES if code != language]
        other = "en" if language != "en" and rng.random() < 0.5 else choose(others, rng)
        in_other = choose(NAME_IN_LANGUAGE, rng).format(language=LANGUAGES[other])
        turns = [
            (choose(NAME_QUESTIONS[language], rng), concept.names[language]),
            (choose(CATEGORY_QUESTIONS, rng), GROUP_NAMES[concept.group]),
            _choice(concept, self._cast, rng),
            (in_other, concept.names[other]),
        ]
        if rng.random() < self._config.name_first:
            return [turns[0], *(turns[1 + place] for place in rng.permutation(3))]
        return [turns[place] for place in rng.permutation(4)]


def _choice(concept: Concept, cast: Cast, rng: np.random.Generator) -> Turn:
    options = cast.options(concept, int(rng.integers(2, 5)), rng)
    return ask_which([option.name for option in options], rng), concept.name


def naming_problems(cast: Cast, count: int, seed: int, language: str = "en") -> list[Problem]:
    """Fixed open questions for the name, one concept at most once, drawings on white."""
    return _problems(
        cast,
        count,
        seed,
        "naming",
        lambda concept: (NAME_QUESTIONS[language][0], concept.names[language], None),
    )


def category_problems(cast: Cast, count: int, seed: int) -> list[Problem]:
    """Fixed questions for the kind of thing, with all kinds as choices."""
    kinds = tuple(GROUP_NAMES.values())
    return _problems(
        cast,
        count,
        seed,
        "category",
        lambda concept: (CATEGORY_QUESTIONS[0], GROUP_NAMES[concept.group], kinds),
    )


def _problems(
    cast: Cast,
    count: int,
    seed: int,
    kind: str,
    ask: Callable[[Concept], tuple[str, str, tuple[str, ...] | None]],
) -> list[Problem]:
    rng = np.random.default_rng(seed)
    problems = []
    for index in rng.permutation(len(cast.concepts))[:count]:
        concept = cast.concepts[int(index)]
        question, answer, choices = ask(concept)
        picture = ImagePart(on_white(cast.drawing(concept, rng)))
        problems.append(
            Problem((Message.of("user", picture, question),), answer, kind, choices, concept.code_point)
        )
    return problems
