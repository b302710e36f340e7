"""Generated clips of one thing that moves, grows, spins or comes and goes, and what happens in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from camelid.core.messages import Frame, Message, VideoPart
from camelid.data.augment import PICTURE_SIZE, recolour
from camelid.data.example import Conversation
from camelid.data.questions.cast import Cast
from camelid.data.questions.problem import Problem
from camelid.data.questions.shapes import COLOURS, SHAPES, draw_shape, jittered_colour
from camelid.data.questions.turns import talk
from camelid.data.questions.wording import CLIP_QUESTIONS, choose

__all__ = ["ACTIONS", "Motion", "MotionClip", "film", "motion_problems"]

DIRECTIONS: Mapping[str, tuple[int, int]] = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
ACTIONS: Mapping[str, str] = {
    "right": "moves to the right",
    "left": "moves to the left",
    "up": "moves up",
    "down": "moves down",
    "grow": "grows",
    "shrink": "shrinks",
    "spin": "spins",
    "appear": "appears",
    "disappear": "disappears",
}
# Shapes that look the same after a turn of 30 to 60 degrees cannot be seen to spin.
SPINNING_SHAPES = ("heart", "triangle", "diamond")
SIZE = PICTURE_SIZE


@dataclass(frozen=True)
class MotionClip:
    """Frames and the truth about them: who (`cat`, `red star`) does what (a key of ACTIONS)."""

    frames: tuple[Frame, ...]
    name: str
    action: str

    @property
    def sentence(self) -> str:
        """`the cat moves up`"""
        return f"the {self.name} {ACTIONS[self.action]}"


class Motion:
    """An endless source of generated clips with one to three questions each."""

    name = "motion"

    def __init__(self, cast: Cast) -> None:
        self._cast = cast

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """A new clip of four to six frames."""
        clip = film(self._cast, rng)
        turns = [
            (choose(("What happens in the clip?", "What happens?", "Describe the clip."), rng), clip.sentence)
        ]
        if clip.action in DIRECTIONS:
            turns.append((f"In which direction does the {clip.name} move?", clip.action))
        turns.append((choose(CLIP_QUESTIONS, rng), clip.name))
        asked = rng.permutation(len(turns))[: int(rng.integers(1, 4))]
        return talk([turns[place] for place in asked], [VideoPart(clip.frames)])


def motion_problems(cast: Cast, count: int, seed: int) -> list[Problem]:
    """Fixed questions on what happens, with all nine actions of the same thing as choices."""
    rng = np.random.default_rng([seed, 7])
    problems = []
    for _ in range(count):
        clip = film(cast, rng)
        choices = tuple(f"the {clip.name} {action}" for action in ACTIONS.values())
        message = Message.of("user", VideoPart(clip.frames), "What happens in the clip?")
        problems.append(Problem((message,), clip.sentence, "motion", choices))
    return problems


def film(cast: Cast, rng: np.random.Generator) -> MotionClip:
    """Four to six frames of SIZE x SIZE pixels on a plain light background, 0.2 to 0.5 seconds apart."""
    action = choose(list(ACTIONS), rng)
    if rng.random() < 0.4:
        shape = choose(SPINNING_SHAPES if action == "spin" else list(SHAPES), rng)
        colour = choose(list(COLOURS), rng)
        actor, name = _shape_actor(shape, colour, rng), f"{colour} {shape}"
    else:
        concept = cast.scene_concepts[int(rng.integers(len(cast.scene_concepts)))]
        actor, name = recolour(cast.drawing(concept, rng), rng, hue_degrees=0.0), concept.name
    num_frames, interval_seconds = int(rng.integers(4, 7)), rng.uniform(0.2, 0.5)
    red, green, blue = (255, 255, 255) if rng.random() < 0.5 else (int(v) for v in rng.integers(218, 256, 3))
    background = (red, green, blue)
    frames = []
    for time, pose in enumerate(_poses(action, num_frames, rng)):
        picture = Image.new("RGB", (SIZE, SIZE), background)
        _place(picture, actor, pose)
        frames.append(Frame(picture, round(time * interval_seconds, 2)))
    return MotionClip(tuple(frames), name, action)


@dataclass(frozen=True)
class _Pose:
    """Middle and width in pixels and turn in degrees; a width of 0 means that nothing is there."""

    x: float
    y: float
    width: float
    turn_degrees: float = 0.0


def _poses(action: str, num_frames: int, rng: np.random.Generator) -> list[_Pose]:
    steps = np.linspace(0.0, 1.0, num_frames)
    width = rng.uniform(0.34, 0.5) * SIZE
    x, y = rng.uniform(width / 2 + 2, SIZE - width / 2 - 2, 2)
    if action in DIRECTIONS:
        dx, dy = DIRECTIONS[action]
        length = rng.uniform(0.34 * SIZE, SIZE - width)
        along = rng.uniform(width / 2, SIZE - width / 2 - length)
        path = along + steps * length
        path = path if dx + dy > 0 else path[::-1]
        return [_Pose(p, y, width) if dx else _Pose(x, p, width) for p in path]
    if action in ("grow", "shrink"):
        widths = np.linspace(rng.uniform(0.13, 0.22), rng.uniform(0.62, 0.88), num_frames) * SIZE
        middle = SIZE / 2 + rng.uniform(-3, 3, 2)
        return [_Pose(middle[0], middle[1], w) for w in (widths if action == "grow" else widths[::-1])]
    if action == "spin":
        turn = rng.uniform(32, 58) * (1 if rng.random() < 0.5 else -1)
        middle = SIZE / 2 + rng.uniform(-6, 6, 2)
        return [_Pose(middle[0], middle[1], width * 1.2, turn * step) for step in range(num_frames)]
    change = int(rng.integers(1, num_frames))
    is_there = [(step >= change) == (action == "appear") for step in range(num_frames)]
    return [_Pose(x, y, width if there else 0.0) for there in is_there]


def _shape_actor(shape: str, colour: str, rng: np.random.Generator) -> Image.Image:
    """An RGBA drawing of a shape that fills it."""
    large = Image.new("RGBA", (4 * SIZE, 4 * SIZE))
    fill = jittered_colour(colour, rng)
    draw_shape(
        ImageDraw.Draw(large), shape, (2.0 * SIZE, 2.0 * SIZE), 1.7 * SIZE, rng.uniform(-8, 8), fill, None
    )
    return large.reduce(4)


def _place(picture: Image.Image, actor: Image.Image, pose: _Pose) -> None:
    width = round(pose.width)
    if not width:
        return
    turned = actor.rotate(pose.turn_degrees, Image.Resampling.BILINEAR) if pose.turn_degrees else actor
    small = turned.resize((width, width), Image.Resampling.BILINEAR)
    picture.paste(small, (math.floor(pose.x - width / 2), math.floor(pose.y - width / 2)), small)
