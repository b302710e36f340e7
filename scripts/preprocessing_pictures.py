"""Photographs cut to odd sizes and saved in odd ways, each as the bytes of a file.

The photographs are the two of Meta's llama-models package and the one of matplotlib's sample data.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# (height, width)
SIZES = (
    *((1, 1), (1, 2), (2, 1), (1, 5000), (5000, 1), (3, 1000), (10, 4000), (4000, 10), (17, 23), (100, 100)),
    *((200, 300), (300, 200), (335, 336), (336, 335), (336, 336), (336, 337), (337, 336), (337, 337)),
    *((480, 640), (512, 512), (671, 673), (672, 672), (683, 1024), (720, 1280), (1000, 1000), (1080, 1920)),
    *((1344, 1344), (1345, 1343), (1920, 1080), (5376, 336), (500, 6000), (2000, 2000), (3000, 4000)),
)
_PHOTOGRAPHS = {
    "pasta": ("llama_models", "resources/pasta.jpeg"),
    "dog": ("llama_models", "resources/dog.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
_ORIENTATION = 0x0112


@cache
def photograph(name: str) -> Image.Image:
    """RGB. Raises SystemExit if the package that carries it is not installed."""
    package, file = _PHOTOGRAPHS[name]
    spec = importlib.util.find_spec(package)
    if not spec or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: it carries the photograph {file}")
    return Image.open(Path(spec.submodule_search_locations[0]) / file).convert("RGB")


def cut(name: str, height: int, width: int) -> Image.Image:
    """A piece of a photograph; one that is too small goes on mirrored, so that all detail is real."""
    pixels = np.asarray(photograph(name))
    padding = [(0, max(0, size - have)) for size, have in zip((height, width), pixels.shape, strict=False)]
    pixels = np.pad(pixels, [*padding, (0, 0)], mode="symmetric")
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return Image.fromarray(pixels[top : top + height, left : left + width])


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def pictures_of_all_sizes() -> Iterator[tuple[str, bytes]]:
    """Every size once, the photographs in turn; fast to write and without loss."""
    for index, (height, width) in enumerate(SIZES):
        name = list(_PHOTOGRAPHS)[index % len(_PHOTOGRAPHS)]
        yield f"{height}x{width}", saved(cut(name, height, width), compress_level=0)


def pictures_of_all_kinds() -> Iterator[tuple[str, bytes]]:
    """Colour modes, transparency, EXIF orientations and animations."""
    colour = cut("dog", 300, 457)
    other = cut("pasta", 300, 457)
    grey = colour.convert("L")
    fading = Image.linear_gradient("L").resize(colour.size)
    see_through = colour.copy()
    see_through.putalpha(fading)
    grey_see_through = grey.copy()
    grey_see_through.putalpha(fading)
    palette = colour.quantize(200)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257 - np.uint16(7))

    yield "JPEG, colour", saved(colour, "JPEG", quality=90)
    yield "JPEG, progressive", saved(colour, "JPEG", quality=60, progressive=True)
    yield "JPEG, grey", saved(grey, "JPEG")
    yield "JPEG, CMYK", saved(colour.convert("CMYK"), "JPEG")
    yield "JPEG of several pictures (MPO)", saved(colour, "MPO", save_all=True, append_images=[other])
    yield "PNG, palette", saved(palette)
    yield "PNG, 1 bit", saved(colour.convert("1"))
    yield "PNG, grey", saved(grey)
    yield "TIFF, CMYK", saved(colour.convert("CMYK"), "TIFF")
    yield "TIFF, YCbCr", saved(colour.convert("YCbCr"), "TIFF")
    yield "BMP, palette", saved(palette, "BMP")
    yield "WebP, lossy", saved(colour, "WEBP", quality=70)
    yield "AVIF", saved(colour, "AVIF", quality=70)
    yield "GIF, animated", saved(colour, "GIF", save_all=True, append_images=[other], duration=100)
    yield "WebP, animated", saved(colour, "WEBP", save_all=True, append_images=[other], duration=100)
    yield "PNG, animated", saved(colour, "PNG", save_all=True, append_images=[other], duration=100)

    yield "PNG, RGBA", saved(see_through)
    yield "WebP, RGBA", saved(see_through, "WEBP", lossless=True)
    yield "PNG, grey with alpha", saved(grey_see_through)
    yield "PNG, palette, one colour transparent", saved(palette, transparency=palette.getpixel((200, 150)))
    yield "PNG, palette with alpha", saved(palette, transparency=bytes(range(200)))
    yield "PNG, one colour transparent", saved(colour, transparency=colour.getpixel((200, 150)))
    yield "GIF, transparent", saved(palette, "GIF", transparency=palette.getpixel((200, 150)))

    yield "PNG, 16 bit grey", saved(deep)
    yield "TIFF, 16 bit grey", saved(deep, "TIFF")

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        yield f"JPEG, EXIF orientation {orientation}", saved(colour, "JPEG", quality=90, exif=exif)
