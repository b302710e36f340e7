"""Drawings and clips of emoji out of their packages, cut to one frame and encoded the same way every time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

from camelid.core.errors import DataError
from camelid.data.icon_sets import names_in_fxemoji, names_in_iconify, names_in_streamline, read_icons
from camelid.data.package_concepts import NamedEmoji
from camelid.data.package_table import (
    CLIPS,
    EMOJIONE,
    EMOJIONE_V1,
    FLUENT,
    FXEMOJI,
    NOTO,
    NOTO_V1,
    OPENMOJI,
    STREAMLINE,
    TWEMOJI,
)
from camelid.data.packages import Package, members

__all__ = ["STYLES", "Style", "encode_drawing", "fit", "read_clips", "read_drawings", "render_svg"]

DRAWING_SIZE = 48  # what nano models see
CLIP_SIZE = 64
FILLED_SHARE = 58 / 64
RENDER_SIZE = 192
CLIP_FRAMES = 8
CLIP_QUALITY = 55
ICONS = "icons.json"


@dataclass(frozen=True)
class Style:
    """A way of drawing: where its pictures lie, and how an emoji's picture is called there (first match wins).

    `folder` is a folder of files, or `icons.json`, the one file that has all pictures of an icon set. `is_whole`
    says that every emoji of today was drawn.
    """

    name: str
    package: Package
    folder: str
    suffix: str
    stems: Callable[[NamedEmoji], tuple[str, ...]]
    is_flat: bool
    is_whole: bool = True

    def read(self, paths: Mapping[Package, Path]) -> dict[str, bytes]:
        """All its pictures as encoded bytes, by file stem."""
        if self.folder == ICONS:
            return read_icons(paths[self.package])
        pattern = re.escape(f"package/{self.folder}/") + r"[^/]+" + re.escape(self.suffix)
        return {Path(name).stem: data for name, data in members(paths[self.package], pattern)}


def _by_code_point(emoji: NamedEmoji) -> tuple[str, ...]:
    return emoji.file_stem, emoji.code_point


def _by_lower_code_point(emoji: NamedEmoji) -> tuple[str, ...]:
    return emoji.file_stem.lower(), emoji.code_point.lower()


# Names that changed after the Fluent pictures were drawn.
OLD_SLUGS = {"1F621": "pouting-face", "1F917": "hugging-face"}


def _by_name(emoji: NamedEmoji) -> tuple[str, ...]:
    slug = OLD_SLUGS.get(emoji.code_point, emoji.slug)
    return slug, f"{slug}-default"


STYLES = (
    Style("noto", NOTO, "img/google/64", ".png", _by_lower_code_point, is_flat=False),
    Style("twemoji", TWEMOJI, "img/twitter/64", ".png", _by_lower_code_point, is_flat=True),
    Style("openmoji", OPENMOJI, "color/svg", ".svg", _by_code_point, is_flat=True),
    Style("fluent-flat", FLUENT, "icons/flat", ".svg", _by_name, is_flat=True),
    Style("fluent-color", FLUENT, "icons/modern", ".svg", _by_name, is_flat=False),
    Style("emojione", EMOJIONE, ICONS, ".svg", names_in_iconify, is_flat=True, is_whole=False),
    Style("emojione-v1", EMOJIONE_V1, ICONS, ".svg", names_in_iconify, is_flat=True, is_whole=False),
    Style("noto-v1", NOTO_V1, ICONS, ".svg", names_in_iconify, is_flat=True, is_whole=False),
    Style("fxemoji", FXEMOJI, ICONS, ".svg", names_in_fxemoji, is_flat=True, is_whole=False),
    Style("streamline", STREAMLINE, ICONS, ".svg", names_in_streamline, is_flat=True, is_whole=False),
)


def read_drawings(
    style: Style, paths: Mapping[Package, Path], concepts: Collection[NamedEmoji]
) -> Iterator[tuple[NamedEmoji, bytes]]:
    """Each concept that a style has a picture of, with the picture as WebP of 48x48 and alpha."""
    pictures = style.read(paths)
    for concept in concepts:
        found = next((pictures[stem] for stem in style.stems(concept) if stem in pictures), None)
        if found is not None:
            picture = render_svg(found) if style.suffix == ".svg" else Image.open(io.BytesIO(found))
            yield concept, encode_drawing(fit(picture), is_flat=style.is_flat)


def render_svg(data: bytes, size: int = RENDER_SIZE) -> Image.Image:
    """An SVG as RGBA pixels, `size` wide; raises DataError where it cannot be drawn."""
    try:
        # Without system fonts, because those differ from one machine to the next; with a resolution, because
        # sizes in millimetres count as none without it.
        png = resvg_py.svg_to_bytes(svg_string=data.decode(), width=size, dpi=96, skip_system_fonts=True)
        return Image.open(io.BytesIO(png)).convert("RGBA")
    except (ValueError, OSError) as error:
        raise DataError(f"an SVG of {len(data)} bytes cannot be drawn: {error}") from error


def fit(picture: Image.Image, size: int = DRAWING_SIZE) -> Image.Image:
    """What is visible, centred on a square of `size`: the longer side of all styles fills nine tenths of it."""
    picture = picture.convert("RGBA")
    box = _visible_box(picture)
    if box is None:
        raise DataError("a drawing with nothing visible in it")
    return _place(picture, box, size)


def encode_drawing(picture: Image.Image, *, is_flat: bool) -> bytes:
    """RGBA pixels as WebP. Few flat colours are smaller and sharper as 64 exact ones; shading needs the lossy kind."""
    buffer = io.BytesIO()
    if is_flat:
        exact = picture.quantize(64, method=Image.Quantize.FASTOCTREE).convert("RGBA")
        exact.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    else:
        picture.save(buffer, "WEBP", quality=65, alpha_quality=70, method=6)
    return buffer.getvalue()


def read_clips(
    paths: Mapping[Package, Path], is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes, int]]:
    """Code point, animated WebP and duration in milliseconds of every wanted clip that moves.

    The clip has 8 frames of 64x64 on white, evenly spaced over the loop. `is_wanted` is asked by code point.
    """
    for package in CLIPS:
        for name, data in members(paths[package], r"package/assets/[^/]+\.webp"):
            code_point = Path(name).stem.upper().replace("-FE0F", "")
            if not is_wanted(code_point):
                continue
            with Image.open(io.BytesIO(data)) as clip:
                if getattr(clip, "n_frames", 1) >= CLIP_FRAMES:
                    yield code_point, *_encode_clip(clip)


def _encode_clip(clip: Any) -> tuple[bytes, int]:
    # Decoded from front to back, because a frame of an animated WebP builds on those before it.
    frames, duration = [], 0
    wanted = {clip.n_frames * place // CLIP_FRAMES for place in range(CLIP_FRAMES)}
    for number in range(clip.n_frames):
        clip.seek(number)
        clip.load()
        duration += int(clip.info["duration"])
        if number in wanted:
            frames.append(clip.convert("RGBA"))
    boxes = [box for frame in frames if (box := _visible_box(frame)) is not None]
    if not boxes:
        raise DataError("a clip with nothing visible in it")
    # One box for all frames, so that what moves moves and what grows grows.
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    box = (min(lefts), min(tops), max(rights), max(bottoms))
    paper = Image.new("RGBA", (CLIP_SIZE, CLIP_SIZE), "white")
    placed = [_place(frame, box, CLIP_SIZE) for frame in frames]
    first, *rest = [Image.alpha_composite(paper, frame).convert("RGB") for frame in placed]
    buffer = io.BytesIO()
    # Neither mixed nor minimised: the encoder would fold frames that look alike into one.
    first.save(
        buffer, "WEBP", save_all=True, append_images=rest, duration=round(duration / CLIP_FRAMES), loop=0,
        quality=CLIP_QUALITY, method=6, minimize_size=False, allow_mixed=False, kmin=0, kmax=0,
    )  # fmt: skip
    return buffer.getvalue(), duration


def _visible_box(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """The bounds of what is more than a breath of alpha."""
    return picture.getchannel("A").point([0] * 17 + [255] * 239).getbbox()


def _place(picture: Image.Image, box: tuple[int, int, int, int], size: int) -> Image.Image:
    part = picture.crop(box)
    scale = size * FILLED_SHARE / max(part.size)
    width, height = (max(1, round(side * scale)) for side in part.size)
    frame = Image.new("RGBA", (size, size))
    frame.paste(
        part.resize((width, height), Image.Resampling.LANCZOS),
        ((size - width) // 2, (size - height) // 2),
    )
    return frame
