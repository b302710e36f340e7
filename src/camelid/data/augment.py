"""Makes one drawing look like many: other backgrounds, places, colours and drawing styles.

A concept has only a few drawings, each in a style of its own, and the model is judged on a style that it has
never seen. So everything that tells styles apart (outlines, shading, palette, sharpness) is varied here,
while what makes a cat a cat stays. Nothing is mirrored: arrows, hands and letters would change their meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from camelid.core.config import Config

__all__ = [
    "PICTURE_SIZE",
    "AugmentConfig",
    "augment_drawing",
    "cut_out",
    "on_white",
    "random_background",
    "recolour",
]

# Side of a training picture in pixels: one tile of the nano vision encoder, so that nothing is cut or rescaled.
PICTURE_SIZE = 48

Rgb = tuple[int, int, int]
Colours = UInt8[np.ndarray, "rows columns 3"]
Alpha = UInt8[np.ndarray, "rows columns"]
Channels = UInt8[np.ndarray, "rows columns *channels"]
WHITE: Rgb = (255, 255, 255)
LUMA = np.array([0.299, 0.587, 0.114])
GREY_AXIS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])


@dataclass(frozen=True)
class AugmentConfig(Config):
    """How far a drawing may stray. Angles in degrees, shifts in parts of the picture."""

    scale: tuple[float, float] = (0.6, 1.05)
    rotation_degrees: float = 15.0
    wide_rotation_degrees: float = 30.0
    shear: float = 0.15
    perspective: float = 0.12
    hue_degrees: float = 15.0
    white_share: float = 0.4


def on_white(drawing: Image.Image, size: int = PICTURE_SIZE) -> Image.Image:
    """An RGBA drawing as evaluation shows it: unchanged, on white, `size` pixels wide and high."""
    if drawing.size != (size, size):
        drawing = drawing.resize((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (size, size), WHITE)
    canvas.paste(drawing, mask=drawing)
    return canvas


def cut_out(picture: Image.Image) -> Image.Image:
    """A drawing on white as RGBA: white that is connected to the border becomes transparent."""
    colours = np.asarray(picture)
    is_white = colours.min(axis=2) > 225
    outside = np.zeros_like(is_white)
    outside[[0, -1]], outside[:, [0, -1]] = is_white[[0, -1]], is_white[:, [0, -1]]
    while True:
        grown = (_grow(outside.view(np.uint8)) > 0) & is_white
        if (grown == outside).all():
            break
        outside = grown
    return Image.fromarray(np.dstack((colours, np.where(outside, 0, 255).astype(np.uint8))))


def augment_drawing(
    drawing: Image.Image,
    rng: np.random.Generator,
    config: AugmentConfig = AugmentConfig(),
    *,
    keep_hue: bool = False,
) -> Image.Image:
    """A new RGB picture, as large as the RGBA drawing. `keep_hue` is for questions about colours."""
    size = drawing.width
    rgba = np.asarray(drawing)
    colours, alpha = _restyle(rgba[..., :3], rgba[..., 3], rng)
    restyled = Image.fromarray(np.dstack((colours, alpha)))
    picture = recolour(restyled, rng, hue_degrees=0.0 if keep_hue else config.hue_degrees)
    coefficients = _placement(size, rng, config)
    picture = picture.transform(
        (size, size), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )
    canvas = random_background(size, rng, config.white_share)
    canvas.paste(picture, mask=picture)
    return _wear(canvas, rng)


def recolour(drawing: Image.Image, rng: np.random.Generator, *, hue_degrees: float) -> Image.Image:
    """An RGBA drawing with other saturation, contrast and brightness, and its hue turned by a few degrees."""
    picture = drawing.convert("RGB").convert("RGB", _colour_matrix(rng, hue_degrees))
    picture.putalpha(drawing.getchannel("A"))
    return picture


def random_background(size: int, rng: np.random.Generator, white_share: float = 0.4) -> Image.Image:
    """White, a plain colour (light, dark or saturated), a gradient or soft noise: RGB, `size` x `size`."""
    choice = rng.random()
    if choice < white_share:
        return Image.new("RGB", (size, size), WHITE)
    choice = (choice - white_share) / (1 - white_share)
    if choice < 0.5:
        return Image.new("RGB", (size, size), _plain_colour(rng))
    if choice < 0.75:
        corners = np.array([_plain_colour(rng), _plain_colour(rng)], dtype=np.uint8)
        pair = corners[np.array([[0, 0], [1, 1]] if rng.random() < 0.5 else [[0, 1], [0, 1]])]
        return Image.fromarray(pair).resize((size, size), Image.Resampling.BILINEAR)
    cells = int(rng.integers(3, 12))
    base = np.array(_plain_colour(rng), dtype=np.float64)
    noise = base + rng.normal(0.0, rng.uniform(8, 40), (cells, cells, 3))
    small = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def _plain_colour(rng: np.random.Generator) -> Rgb:
    kind = rng.random()
    if kind < 0.5:
        values = rng.integers(190, 256, 3)
    elif kind < 0.7:
        values = rng.integers(0, 70, 3)
    else:
        values = rng.integers(0, 256, 3)
    return int(values[0]), int(values[1]), int(values[2])


def _neighbours(pixels: Channels, axis: int) -> tuple[Channels, Channels]:
    """Every pixel's predecessor and successor along an axis; at the border the pixel itself."""
    last = pixels.shape[axis] - 1
    index = np.arange(last + 1)
    return pixels.take(np.maximum(index - 1, 0), axis), pixels.take(np.minimum(index + 1, last), axis)


def _grow(pixels: Channels) -> Channels:
    """Grey dilation by one pixel, separable."""
    for axis in (0, 1):
        before, after = _neighbours(pixels, axis)
        pixels = np.maximum(np.maximum(before, after), pixels)
    return pixels


def _shrink(pixels: Channels) -> Channels:
    """Grey erosion by one pixel."""
    return 255 - _grow(255 - pixels)


def _flatten(pixels: Channels) -> Channels:
    """Median of three, along and across: texture and thin lines go, edges stay."""
    for axis in (0, 1):
        before, after = _neighbours(pixels, axis)
        pixels = np.maximum(np.minimum(before, after), np.minimum(np.maximum(before, after), pixels))
    return pixels


def _restyle(colours: Colours, alpha: Alpha, rng: np.random.Generator) -> tuple[Colours, Alpha]:
    """Changes what a drawing style consists of: lines, shading, number of tones."""
    style = rng.random()
    if style < 0.12:
        colours = _flatten(colours)
    elif style < 0.22:
        colours, alpha = _grow(colours), _shrink(alpha)
    elif style < 0.40:
        colours, alpha = _outline(colours, alpha, rng)
    elif style < 0.48:
        step = 32 if rng.random() < 0.5 else 64
        colours = (colours // step * step + step // 2).astype(np.uint8)
    elif style < 0.54:
        grey = (colours @ LUMA)[..., None]
        colours = (grey + (colours - grey) * rng.uniform(0.0, 0.5)).astype(np.uint8)
    if rng.random() < 0.3:
        colours = _shade(colours, rng)
    return colours, alpha


def _outline(colours: Colours, alpha: Alpha, rng: np.random.Generator) -> tuple[Colours, Alpha]:
    """Dark lines around the figure and, half the time, along the edges inside it."""
    ink = rng.uniform(0, 60)
    wide = _grow(alpha)
    share = (alpha / 255.0)[..., None]
    lined = colours * share + ink * (1 - share)
    if rng.random() < 0.5:
        light = (colours @ LUMA).astype(np.uint8)
        edges = (_grow(light).astype(np.int16) - _shrink(light)).clip(0, 120) / 120.0
        strength = (edges * share[..., 0])[..., None] * rng.uniform(0.4, 1.0)
        lined = lined * (1 - strength) + ink * strength
    return lined.astype(np.uint8), wide


def _shade(colours: Colours, rng: np.random.Generator) -> Colours:
    """A linear light across the figure, as in shaded styles."""
    rows, columns = colours.shape[:2]
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.45)
    down, across = np.linspace(-depth, depth, rows), np.linspace(-depth, depth, columns)
    ramp = np.add.outer(down * math.sin(angle), across * math.cos(angle)).astype(np.float32)
    lit: np.ndarray = colours * (1 + ramp)[..., None]
    return lit.clip(0, 255).astype(np.uint8)


def _colour_matrix(rng: np.random.Generator, hue_degrees: float) -> tuple[float, ...]:
    """Hue turn, saturation, contrast and brightness are all linear in RGB: one 3x4 matrix for Pillow.

    Without a hue turn the other changes are mild too, because a dark yellow is called brown.
    """
    strength = 1.0 if hue_degrees else 0.4
    limit = hue_degrees * (2 if rng.random() < 0.1 else 1)
    turn = math.radians(rng.uniform(-limit, limit))
    saturation = 1 + strength * rng.uniform(-0.3, 0.35)
    contrast = 1 + strength * rng.uniform(-0.22, 0.2)
    brightness = 1 + strength * rng.uniform(-0.12, 0.12)
    # Rodrigues' rotation about the grey axis.
    third, sine = (1 - math.cos(turn)) / 3, math.sin(turn) / math.sqrt(3)
    rotation = math.cos(turn) * np.eye(3) + third + sine * GREY_AXIS
    matrix = (saturation * rotation + (1 - saturation) * LUMA @ rotation) * (contrast * brightness)
    offset = 128.0 * (1 - contrast) * brightness
    return tuple(float(value) for row in matrix for value in (*row, offset))


def _placement(size: int, rng: np.random.Generator, config: AugmentConfig) -> tuple[float, ...]:
    """The eight numbers of a perspective that map output pixels to drawing pixels (Pillow's convention)."""
    scale = rng.uniform(*config.scale)
    is_wide = rng.random() < 0.15
    limit = config.wide_rotation_degrees if is_wide else config.rotation_degrees
    angle = math.radians(rng.uniform(-limit, limit))
    shear = rng.uniform(-config.shear, config.shear) if rng.random() < 0.5 else 0.0
    stretch = math.exp(rng.uniform(-0.12, 0.12))
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    a, b = cosine * stretch, (sine + shear / scale) * stretch
    d, e = -sine / stretch, cosine / stretch
    tilt = config.perspective if rng.random() < 0.5 else 0.0
    g, h = rng.uniform(-tilt, tilt, 2) * 2 / size
    slack = max(0.05, (1 - scale) / 2)
    centre = size / 2
    to_x = centre * (1 + 2 * rng.uniform(-slack, slack))
    to_y = centre * (1 + 2 * rng.uniform(-slack, slack))
    # (u, v) = centre + M (x - to) / (1 + tilt (x - to)), multiplied out and normalised to a last entry of 1.
    last = 1 - g * to_x - h * to_y
    rows = (
        a + centre * g, b + centre * h, centre * last - a * to_x - b * to_y,
        d + centre * g, e + centre * h, centre * last - d * to_x - e * to_y,
        g, h,
    )  # fmt: skip
    return tuple(float(value / last) for value in rows)


def _wear(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """What happens to a finished picture: blur, sharpening, a lower resolution, noise, a covered patch."""
    size = picture.width
    choice = rng.random()
    if choice < 0.12:
        picture = picture.filter(ImageFilter.BoxBlur(float(rng.uniform(0.3, 1.0))))
    elif choice < 0.22:
        picture = picture.filter(ImageFilter.SHARPEN)
    elif choice < 0.30:
        small = int(size * rng.uniform(0.5, 0.8))
        picture = picture.resize((small, small), Image.Resampling.BILINEAR)
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    elif choice < 0.40:
        noise = rng.normal(0.0, rng.uniform(3, 14), (size, size, 1)).astype(np.float32)
        picture = Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.15:
        width, height = (int(value) for value in rng.integers(size // 8, size // 3, 2))
        left, top = int(rng.integers(0, size - width)), int(rng.integers(0, size - height))
        picture.paste(_plain_colour(rng), (left, top, left + width, top + height))
    return picture
