"""Pictures in a terminal: every character cell shows two pixels, one above the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style

__all__ = ["Thumbnail"]

UPPER_HALF = "▀"


class Thumbnail:
    """A rich renderable: one picture, or the stills of a clip side by side.

    `rows` is the height in character cells; the width follows from the picture, at most `max_columns` in all.
    A terminal without colours gets a word instead.
    """

    def __init__(
        self, images: Image.Image | Sequence[Image.Image], rows: int = 8, max_columns: int = 72
    ) -> None:
        stills = [images] if isinstance(images, Image.Image) else list(images)
        assert stills and rows > 0
        shrunk = [_shrink(image, rows * 2, max_columns) for image in stills]
        self.strip = _side_by_side(shrunk, max_columns)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.strip.width, self.strip.width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if console.color_system is None:
            yield Segment("[picture]")
            yield Segment.line()
            return
        pixels = np.asarray(self.strip)
        for upper_row, lower_row in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
            for upper, lower in zip(upper_row, lower_row, strict=True):
                yield Segment(UPPER_HALF, Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
            yield Segment.line()


def _shrink(image: Image.Image, height: int, max_columns: int) -> Image.Image:
    """RGB on white, `height` pixels high (an even number), keeping the shape."""
    rgba = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    width = max(1, round(flat.width * height / flat.height))
    if width > max_columns:
        width, height = max_columns, max(2, round(flat.height * max_columns / flat.width / 2) * 2)
    return flat.resize((width, height), Image.Resampling.BOX, reducing_gap=3.0)


def _side_by_side(images: Sequence[Image.Image], max_columns: int) -> Image.Image:
    """As many of the images, evenly chosen, as fit next to each other; at least one."""
    gap, widest = 1, max(image.width for image in images)
    count = min(len(images), max(1, (max_columns + gap) // (widest + gap)))
    chosen = [images[index * len(images) // count] for index in range(count)]
    width = sum(image.width for image in chosen) + gap * (count - 1)
    strip = Image.new("RGB", (width, max(image.height for image in chosen)), "white")
    left = 0
    for image in chosen:
        strip.paste(image, (left, 0))
        left += image.width + gap
    return strip
