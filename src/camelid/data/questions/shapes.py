"""Plain shapes and colours that everybody names alike."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from PIL import ImageDraw

__all__ = ["COLOURS", "SHAPES", "Rgb", "draw_shape", "jittered_colour", "plural"]

Rgb = tuple[int, int, int]
Outline = Float[np.ndarray, "corners 2"]

COLOURS: Mapping[str, Rgb] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 40),
    "green": (50, 165, 70),
    "blue": (45, 95, 215),
    "purple": (135, 60, 175),
    "pink": (250, 150, 195),
    "brown": (125, 75, 40),
    "black": (25, 25, 25),
}
COLOUR_JITTER = 12


def _regular(num_corners: int, turn_degrees: float = 0.0) -> Outline:
    angles = np.linspace(0, 2 * math.pi, num_corners, endpoint=False) + math.radians(turn_degrees - 90)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Outline:
    points = _regular(10)
    points[1::2] *= 0.42
    return points


def _heart() -> Outline:
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -(y + 2.5) / 15], axis=1)


def _cross() -> Outline:
    arm = 0.34
    quarter = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)]
    rest = [(-x, -y) for x, y in quarter]
    return np.array(quarter + rest, dtype=np.float64)


# Outlines in a box from -1 to 1, y pointing down.
SHAPES: Mapping[str, Outline] = {
    "circle": _regular(36),
    "square": _regular(4, 45.0) * 1.2,
    "triangle": _regular(3) * 1.1,
    "star": _star() * 1.1,
    "heart": _heart(),
    "diamond": _regular(4) * np.array([0.75, 1.05]),
    "cross": _cross(),
    "ring": _regular(36),
}


def plural(shape: str) -> str:
    """Two crosses, two circles."""
    return shape + ("es" if shape.endswith("s") else "s")


def jittered_colour(name: str, rng: np.random.Generator) -> Rgb:
    """A shade near the named colour, near enough that nobody would call it by another name."""
    shift = rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3)
    red, green, blue = (int(value) for value in (np.array(COLOURS[name]) + shift).clip(0, 255))
    return red, green, blue


def draw_shape(
    canvas: ImageDraw.ImageDraw,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    turn_degrees: float,
    fill: Rgb,
    background: Rgb | None,
) -> None:
    """Paints a shape; lengths in pixels of the canvas. The hole of a ring shows the background (None: nothing)."""
    turn = math.radians(turn_degrees)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    outline = SHAPES[shape] @ rotation * radius + np.array(centre)
    canvas.polygon([(float(x), float(y)) for x, y in outline], fill=fill)
    if shape == "ring":
        hole = SHAPES["circle"] * (radius * 0.55) + np.array(centre)
        canvas.polygon([(float(x), float(y)) for x, y in hole], fill=background or (0, 0, 0, 0))
