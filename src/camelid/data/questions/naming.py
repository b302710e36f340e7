"""What is this? In twelve languages, and what kind of thing it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

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

__all__ = ["Naming", "category_problems", "naming_problems"]

DOCUMENT_SHARE = 0.1
TEXT_FIRST_SHARE = 0.1
NAME_FIRST_SHARE = 0.75
# Shares of conversations with one, two, three and four turns about one picture. What is asked later can often be
# answered from what was said before, so most conversations look once and end.
TURN_SHARES = (0.75, 0.17, 0.05, 0.03)


class Naming:
    """Drawings with their names, walking through all drawings in shuffled epochs."""

    name = "naming"

    def __init__(self, cast: Cast, seed: int = 0, augment: AugmentConfig = AugmentConfig()) -> None:
        self._cast = cast
        self._seed = seed
        self._augment = augment

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """A conversation of one to four turns about a picture, or a document of captioned pictures."""
        concept, drawing = self._cast.pair(epoch_order(self._cast.num_drawings, index, self._seed))
        if rng.random() < DOCUMENT_SHARE:
            return self._document(concept, drawing, rng)
        picture = ImagePart(augment_drawing(drawing, rng, self._augment))
        num_turns = 1 + int(np.searchsorted(np.cumsum(TURN_SHARES), rng.random()))
        turns = _turns(concept, self._cast, rng)[:num_turns]
        return talk(turns, [picture], is_shown_last=rng.random() < TEXT_FIRST_SHARE)

    def _document(self, concept: Concept, drawing: Image.Image, rng: np.random.Generator) -> Document:
        """One to four pictures, each before (or each after) its caption, in one language."""
        language = choose_language(rng)
        is_caption_first = rng.random() < 0.3
        parts: list[Part] = []
        for _ in range(1 + int(rng.integers(4))):
            picture = ImagePart(augment_drawing(drawing, rng, self._augment))
            name = concept.names[language]
            parts += [TextPart(f"{name}: "), picture] if is_caption_first else [picture, TextPart(f" {name}")]
            parts.append(TextPart("\n"))
            concept, drawing = self._cast.pair(int(rng.integers(self._cast.num_drawings)))
        return Document(tuple(parts[:-1]))


def _turns(concept: Concept, cast: Cast, rng: np.random.Generator) -> list[Turn]:
    """Four different turns in random order, but mostly the plain question for the name first.

    What is asked after the name can be had without looking; so a third begin with something else.
    """
    language = choose_language(rng)
    others = [code for code in LANGUAGES if code != language]
    other = "en" if language != "en" and rng.random() < 0.5 else choose(others, rng)
    in_other = choose(NAME_IN_LANGUAGE, rng).format(language=LANGUAGES[other])
    turns = [
        (choose(NAME_QUESTIONS[language], rng), concept.names[language]),
        (choose(CATEGORY_QUESTIONS, rng), GROUP_NAMES[concept.group]),
        (in_other, concept.names[other]),
        _choice(concept, cast, rng),
    ]
    if rng.random() < NAME_FIRST_SHARE:
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
