"""One picture becomes tiles: the canvas that wastes least, cut into squares, and the whole picture once more.

The rules are those of Meta's `ResizeNormalizeImageTransform` and of Hugging Face's Llama 4 image processor.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from camelid.core.errors import ImageError
from camelid.inputs.strict_pillow import refusing_truncated

__all__ = ["MAX_IMAGE_PIXELS", "ImageTiles", "choose_canvas", "cut_tiles", "load_image", "resized_size"]

# Largest picture that is decoded at all, in pixels; a small file can claim far more than memory holds.
MAX_IMAGE_PIXELS = 89_000_000

# Named, because Pillow would otherwise also try formats that start other programs, such as EPS.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")


@dataclass(frozen=True)
class ImageTiles:
    """The tiles of one picture in feeding order: row by row, then the global tile if more than one."""

    tiles: UInt8[Tensor, "tiles 3 size size"]
    rows: int
    cols: int


@refusing_truncated()
def load_image(source: Path | bytes | Image.Image, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """RGB pixels, upright as the EXIF tag says, transparency on white, of an animation the first frame.

    Raises ImageError with the file's name for what is missing, corrupt, truncated, of an unknown format or
    larger than `max_pixels`; the size is that of the header and is checked before anything is decoded.
    """
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "")) or "image"
    else:
        name = str(source) if isinstance(source, Path) else f"image of {len(source)} bytes"
    try:
        if isinstance(source, Image.Image):
            return _decoded(source, name, max_pixels)
        file = source if isinstance(source, Path) else io.BytesIO(source)
        with Image.open(file, formats=_FORMATS) as image:
            return _decoded(image, name, max_pixels)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: more than {max_pixels} pixels: {error}") from error
    except Exception as error:  # decoders raise whatever their format makes them raise
        raise ImageError(f"{name}: cannot read this image: {error}") from error


def check_pixels(width: int, height: int, max_pixels: int, name: str) -> None:
    """Raises ImageError if a picture is too large to be decoded."""
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} = {width * height} pixels, the limit is {max_pixels}")


def _decoded(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    check_pixels(image.width, image.height, max_pixels, name)
    if not image.width or not image.height:
        raise ImageError(f"{name}: {image.width} x {image.height} pixels, nothing to see")
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8 instead of scaling them
        eight_bits = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(eight_bits).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: pixels of type {image.mode} have no known range; save 8 or 16 bits")
    return image.convert("RGB")


@lru_cache(maxsize=4096)
def choose_canvas(height: int, width: int, tile_size: int, max_tiles: int) -> tuple[int, int]:
    """(rows, cols) of the canvas for a picture of `height` x `width` pixels.

    Of all canvases of at most `max_tiles` tiles the one that enlarges least; if all shrink, the one that
    shrinks least; among equals the smallest.
    """
    assert height > 0 and width > 0 and tile_size > 0 and max_tiles > 0
    best, best_key = (1, 1), (math.inf, math.inf, math.inf)
    for rows in range(1, max_tiles + 1):
        for cols in range(1, max_tiles // rows + 1):
            scale = min(rows * tile_size / height, cols * tile_size / width)
            key = (0.0, scale, rows * cols) if scale >= 1 else (1.0, -scale, rows * cols)
            if key < best_key:
                best, best_key = (rows, cols), key
    return best


def resized_size(height: int, width: int, rows: int, cols: int, tile_size: int) -> tuple[int, int]:
    """(height, width) in pixels of the picture on its canvas: aspect kept, and only small pictures grow."""
    target_height = min(max(height, tile_size), rows * tile_size)
    target_width = min(max(width, tile_size), cols * tile_size)
    vertical, horizontal = target_height / height, target_width / width
    if horizontal < vertical:
        return max(1, min(math.floor(height * horizontal), target_height)), target_width
    return target_height, max(1, min(math.floor(width * vertical), target_width))


def cut_tiles(image: Image.Image, tile_size: int, max_tiles: int) -> ImageTiles:
    """Resizes (bilinear, antialiased), pads right and bottom with black, cuts, and appends the global tile.

    The global tile is the whole picture squeezed to a square, without keeping its aspect.
    """
    width, height = image.size
    rows, cols = choose_canvas(height, width, tile_size, max_tiles)
    new_height, new_width = resized_size(height, width, rows, cols, tile_size)
    pixels = _pixels(_resize(image, new_width, new_height))
    if (new_height, new_width) != (rows * tile_size, cols * tile_size):
        canvas = np.zeros((rows * tile_size, cols * tile_size, 3), np.uint8)
        canvas[:new_height, :new_width] = pixels
        pixels = canvas
    grid = pixels.reshape(rows, tile_size, cols, tile_size, 3).transpose(0, 2, 4, 1, 3)
    tiles = np.empty((rows * cols + (rows * cols > 1), 3, tile_size, tile_size), np.uint8)
    tiles[: rows * cols] = grid.reshape(rows * cols, 3, tile_size, tile_size)
    if rows * cols > 1:
        tiles[-1] = _pixels(_resize(image, tile_size, tile_size)).transpose(2, 0, 1)
    return ImageTiles(torch.from_numpy(tiles), rows, cols)


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    size = (width, height)
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _pixels(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[height, width, 3]"""
    return np.asarray(image, np.uint8)
