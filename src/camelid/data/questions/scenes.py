"""Pictures composed of a few things on a three by three grid, with every question's answer known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from camelid.core.messages import ImagePart, Message
from camelid.data.augment import PICTURE_SIZE, recolour
from camelid.data.example import Conversation
from camelid.data.questions.cast import Cast
from camelid.data.questions.problem import Problem
from camelid.data.questions.shapes import COLOURS, SHAPES, Rgb, draw_shape, jittered_colour, plural
from camelid.data.questions.turns import talk
from camelid.data.questions.wording import choose

__all__ = [
    "Placed",
    "Question",
    "Scene",
    "SceneKind",
    "Scenes",
    "compose_scene",
    "questions_about",
    "scene_problems",
]

SceneKind = Literal["count", "colour", "where", "relation"]
COUNT_QUESTIONS = ("How many {things} are there?", "How many {things} do you see?", "Count the {things}.")
COLOUR_QUESTIONS = ("What colour is the {name}?", "Which colour does the {name} have?")
Box = tuple[float, float, float, float]
NUMBERS = ("one", "two", "three", "four", "five")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")
PLACES = {(r, c): f"{ROWS[r]} {COLUMNS[c]}" for r in range(3) for c in range(3)} | {(1, 1): "centre"}
SUPERSAMPLING = 4
MAX_OBJECTS = 5


@dataclass(frozen=True)
class Placed:
    """One thing in a scene. `box` is left, top, right, bottom in pixels; a drawing has no colour."""

    name: str
    colour: str | None
    row: int
    column: int
    box: Box

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return PLACES[self.row, self.column]

    def same_row(self, other: Placed) -> bool:
        """Whether both stand side by side."""
        return self.row == other.row

    def same_column(self, other: Placed) -> bool:
        """Whether one stands above the other."""
        return self.column == other.column


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it."""

    picture: Image.Image
    objects: tuple[Placed, ...]


@dataclass(frozen=True)
class Question:
    """One question about a scene and its only right answer."""

    kind: SceneKind
    text: str
    answer: str
    choices: tuple[str, ...] | None = None


def compose_scene(cast: Cast, rng: np.random.Generator, size: int = PICTURE_SIZE) -> Scene:
    """One to five things, none overlapping, on a plain light background; a picture of `size` x `size`."""
    background = _light_colour(rng)
    canvas = Image.new("RGB", (size * SUPERSAMPLING, size * SUPERSAMPLING), background)
    pen = ImageDraw.Draw(canvas)
    objects: list[Placed] = []
    pasted: list[tuple[Image.Image, Placed]] = []
    count = int(rng.integers(1, MAX_OBJECTS + 1))
    shape_share = rng.choice((0.0, 0.5, 0.5, 1.0, 1.0))
    shapes, colours = _a_few(list(SHAPES), rng), _a_few(list(COLOURS), rng)
    for cell in rng.permutation(9):
        row, column = divmod(int(cell), 3)
        box = _free_box(row, column, [placed.box for placed in objects], size, rng)
        if box is None:
            continue
        if rng.random() < shape_share:
            placed = Placed(choose(shapes, rng), choose(colours, rng), row, column, box)
            _paint(pen, placed, background, rng)
        else:
            concept = cast.scene_concepts[int(rng.integers(len(cast.scene_concepts)))]
            placed = Placed(concept.name, None, row, column, box)
            pasted.append((cast.drawing(concept, rng), placed))
        objects.append(placed)
        if len(objects) == count:
            break
    picture = canvas.reduce(SUPERSAMPLING)
    for drawing, placed in pasted:
        _paste(picture, drawing, placed, rng)
    return Scene(picture, tuple(objects))


def questions_about(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Every question that has exactly one answer, in random order, the kinds taking turns."""
    keyed: list[tuple[float, Question]] = []
    for ask in (_counts, _colours, _places, _things, _relations):
        questions = list(ask(scene, rng))
        ranks = rng.permutation(len(questions)) + rng.random(len(questions))
        keyed += zip(ranks, questions, strict=True)
    return [question for _, question in sorted(keyed, key=lambda pair: pair[0])]


class Scenes:
    """An endless source of scenes with two to five questions each."""

    name = "scenes"

    def __init__(self, cast: Cast, large_share: float = 0.03) -> None:
        self._cast = cast
        self._large_share = large_share

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """A new scene; a large one is twice as wide and high and becomes several tiles."""
        scene = compose_scene(self._cast, rng, PICTURE_SIZE * (2 if rng.random() < self._large_share else 1))
        asked = questions_about(scene, rng)[: int(rng.integers(2, 6))]
        turns = [(question.text, question.answer) for question in asked]
        return talk(turns, [ImagePart(scene.picture)])


def scene_problems(cast: Cast, count: int, kind: SceneKind, seed: int) -> list[Problem]:
    """Fixed problems of one kind; where an answer is one of a few choices, each is right equally often."""
    problems: list[Problem] = []
    rng = np.random.default_rng([seed, *kind.encode()])
    while len(problems) < count:
        scene = compose_scene(cast, rng)
        for question in questions_about(scene, rng):
            choices = question.choices or (question.answer,)
            if question.kind == kind and question.answer == choices[len(problems) % len(choices)]:
                message = Message.of("user", ImagePart(scene.picture), question.text)
                problems.append(Problem((message,), question.answer, f"scene_{kind}", question.choices))
                break
    return problems


def _counts(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    shapes = [placed for placed in scene.objects if placed.colour]
    asked = [("objects", len(scene.objects))]
    asked += [(plural(name), number) for name, number in Counter(o.name for o in shapes).items()]
    asked += [(f"{colour} shapes", number) for colour, number in Counter(o.colour for o in shapes).items()]
    for things, number in asked:
        text = choose(COUNT_QUESTIONS, rng).format(things=things)
        yield Question("count", text, NUMBERS[number - 1], NUMBERS)


def _colours(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for placed in _unique(scene.objects):
        if placed.colour:
            text = choose(COLOUR_QUESTIONS, rng).format(name=placed.name)
            yield Question("colour", text, placed.colour, tuple(COLOURS))


def _places(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for placed in _unique(scene.objects):
        yield Question("where", f"Where is the {placed.name}?", placed.place, tuple(PLACES.values()))


def _things(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for placed in scene.objects:
        where = "in the centre" if placed.place == "centre" else f"at the {placed.place}"
        yield Question("relation", f"What is {where}?", placed.name)


def _relations(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    """Asked only where a single thing lies on that side at all, and straight on that side."""
    for placed in _unique(scene.objects):
        for side, others, is_straight in (
            ("to the left of", [o for o in scene.objects if o.column < placed.column], placed.same_row),
            ("to the right of", [o for o in scene.objects if o.column > placed.column], placed.same_row),
            ("above", [o for o in scene.objects if o.row < placed.row], placed.same_column),
            ("below", [o for o in scene.objects if o.row > placed.row], placed.same_column),
        ):
            if len(others) == 1 and is_straight(others[0]):
                yield Question("relation", f"What is {side} the {placed.name}?", others[0].name)


def _unique(objects: Sequence[Placed]) -> list[Placed]:
    """Those that their name alone points to."""
    names = Counter(placed.name for placed in objects)
    return [placed for placed in objects if names[placed.name] == 1]


def _free_box(row: int, column: int, taken: Sequence[Box], size: int, rng: np.random.Generator) -> Box | None:
    """A square near a cell's middle that stays in the picture and touches no other, or None."""
    for attempt in range(6):
        width = size / 64 * (rng.uniform(19, 28) - 1.5 * attempt)
        jitter = rng.uniform(-0.05, 0.05, 2) * size
        x = min(max((column + 0.5) * size / 3 + jitter[0], width / 2), size - width / 2)
        y = min(max((row + 0.5) * size / 3 + jitter[1], width / 2), size - width / 2)
        box = (x - width / 2, y - width / 2, x + width / 2, y + width / 2)
        if all(box[2] < o[0] or o[2] < box[0] or box[3] < o[1] or o[3] < box[1] for o in taken):
            return box
    return None


def _a_few(names: list[str], rng: np.random.Generator) -> list[str]:
    """One to four of them, so that the same shape and the same colour come more than once."""
    return [names[index] for index in rng.permutation(len(names))[: int(rng.integers(1, 5))]]


def _light_colour(rng: np.random.Generator) -> Rgb:
    """White half the time; light enough that every named colour stands out."""
    if rng.random() < 0.5:
        return 255, 255, 255
    red, green, blue = (int(value) for value in rng.integers(218, 256, 3))
    return red, green, blue


def _paint(pen: ImageDraw.ImageDraw, placed: Placed, background: Rgb, rng: np.random.Generator) -> None:
    assert placed.colour is not None
    left, top, right, bottom = (SUPERSAMPLING * value for value in placed.box)
    # 0.8 leaves room for the corners of a turned shape.
    radius, turn = (right - left) / 2 * rng.uniform(0.8, 0.9), rng.uniform(-12, 12)
    centre = ((left + right) / 2, (top + bottom) / 2)
    draw_shape(pen, placed.name, centre, radius, turn, jittered_colour(placed.colour, rng), background)


def _paste(picture: Image.Image, drawing: Image.Image, placed: Placed, rng: np.random.Generator) -> None:
    left, top, right, _ = placed.box
    width = round(right - left)
    small = recolour(drawing, rng, hue_degrees=0.0).resize((width, width), Image.Resampling.BILINEAR)
    picture.paste(small, (round(left), round(top)), small)
