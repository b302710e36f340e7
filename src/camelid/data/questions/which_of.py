"""Which of these is it, and which picture shows it."""

from __future__ import annotations

import numpy as np

from camelid.core.messages import ImagePart, Message
from camelid.data.augment import AugmentConfig, augment_drawing, on_white
from camelid.data.epochs import epoch_order
from camelid.data.example import Conversation
from camelid.data.questions.cast import Cast
from camelid.data.questions.problem import Problem
from camelid.data.questions.turns import talk
from camelid.data.questions.wording import ask_which, choose, either, with_article

__all__ = ["WhichOf", "which_of_problems"]

ORDINALS = ("first", "second", "third")


class WhichOf:
    """One picture and several names, or several pictures and one name."""

    name = "which_of"

    def __init__(self, cast: Cast, seed: int = 0, augment: AugmentConfig = AugmentConfig()) -> None:
        self._cast = cast
        self._seed = seed
        self._augment = augment

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """About the drawing at draw `index`; half of the other names come from its own subgroup."""
        concept, drawing = self._cast.pair(epoch_order(self._cast.num_drawings, index, self._seed))
        options = self._cast.options(concept, int(rng.integers(2, 5)), rng)
        if rng.random() < 0.5:
            picture = ImagePart(augment_drawing(drawing, rng, self._augment))
            return talk([(ask_which([option.name for option in options], rng), concept.name)], [picture])
        options = options[:3]
        if concept not in options:
            options[int(rng.integers(3))] = concept
        drawings = [drawing if option is concept else self._cast.drawing(option, rng) for option in options]
        pictures = [ImagePart(augment_drawing(one, rng, self._augment)) for one in drawings]
        order = [options.index(concept), *(i for i in range(len(options)) if options[i] is not concept)]
        turns = [
            (_which_picture(options[place].name, len(options), rng), ORDINALS[place])
            for place in order[: int(rng.integers(1, 3))]
        ]
        return talk(turns, pictures)


def which_of_problems(cast: Cast, count: int, seed: int, num_options: int = 4) -> list[Problem]:
    """Fixed questions with `num_options` names to choose from, drawings on white."""
    rng = np.random.default_rng(seed)
    problems = []
    for index in rng.permutation(len(cast.concepts))[:count]:
        concept = cast.concepts[int(index)]
        names = tuple(option.name for option in cast.options(concept, num_options, rng))
        picture = ImagePart(on_white(cast.drawing(concept, rng)))
        message = Message.of("user", picture, f"Which of these is it: {', '.join(names)}?")
        problems.append(Problem((message,), concept.name, "which_of", names, concept.code_point))
    return problems


def _which_picture(name: str, count: int, rng: np.random.Generator) -> str:
    places = either([f"the {ordinal}" for ordinal in ORDINALS[:count]])
    return choose(
        (f"Which picture shows {with_article(name)}, {places}?", f"Which one is the {name}, {places}?"), rng
    )
