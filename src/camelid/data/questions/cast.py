"""Who may appear in questions: concepts, and the drawings that show them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
from PIL import Image

from camelid.core.errors import DataError
from camelid.data.augment import PICTURE_SIZE
from camelid.data.questions.shapes import SHAPES
from camelid.data.starter import Concept, Drawing

__all__ = ["MIN_CONCEPTS", "Cast"]

# Fewer would not give an answer three wrong ones beside it.
MIN_CONCEPTS = 8

# Groups of things that can stand in a scene, between other things.
SCENE_GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")


class Cast:
    """Drawings and the concepts they show: all that the makers of questions know of the pack and its splits.

    Raises DataError for fewer than MIN_CONCEPTS concepts.
    """

    def __init__(self, drawings: Sequence[Drawing]) -> None:
        self._drawings = drawings
        self._drawings_of: dict[Concept, list[Drawing]] = {}
        for drawing in drawings:
            self._drawings_of.setdefault(drawing.concept, []).append(drawing)
        self.concepts = tuple(self._drawings_of)
        if len(self.concepts) < MIN_CONCEPTS:
            raise DataError(f"questions need at least {MIN_CONCEPTS} concepts, got {len(self.concepts)}")
        self._by_subgroup: dict[str, list[Concept]] = {}
        for concept in self.concepts:
            self._by_subgroup.setdefault(concept.subgroup, []).append(concept)

    @property
    def num_drawings(self) -> int:
        """How many drawings there are, of all concepts."""
        return len(self._drawings)

    def pair(self, number: int) -> tuple[Concept, Image.Image]:
        """Drawing `number` as RGBA pixels, and what it shows."""
        drawing = self._drawings[number]
        return drawing.concept, _pixels(drawing)

    def drawing(self, concept: Concept, rng: np.random.Generator) -> Image.Image:
        """One of the concept's drawings, RGBA."""
        drawings = self._drawings_of[concept]
        return _pixels(drawings[int(rng.integers(len(drawings)))])

    def options(self, concept: Concept, count: int, rng: np.random.Generator) -> list[Concept]:
        """The concept among `count - 1` others in random order, about half of them from its own subgroup."""
        options = [concept]
        near = self._by_subgroup[concept.subgroup]
        while len(options) < count:
            pool: Sequence[Concept] = near if rng.random() < 0.5 else self.concepts
            other = pool[int(rng.integers(len(pool)))]
            if other not in options:
                options.append(other)
        return [options[index] for index in rng.permutation(count)]

    @cached_property
    def scene_concepts(self) -> tuple[Concept, ...]:
        """Things with short names of their own, which no plain shape and no other thing shares."""
        concepts = [concept for concept in self.concepts if concept.group in SCENE_GROUPS]
        return tuple(
            concept
            for concept in concepts
            if len(concept.name.split()) <= 2
            and concept.name.replace(" ", "").isalpha()
            and not set(SHAPES) & set(concept.name.split())
        )


@cache
def _pixels(drawing: Drawing) -> Image.Image:
    """Decoded once, in the size of a training picture: a pack of 5,000 drawings takes 46 MB."""
    return drawing.image().resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
