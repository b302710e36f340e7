"""Pictures with captions and questions out of their packages: clip art, stamps, coloured shapes."""

from __future__ import annotations

import html
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

from camelid.core.errors import DataError
from camelid.data.package_concepts import LANGUAGES
from camelid.data.package_drawings import encode_drawing, fit, render_svg
from camelid.data.package_table import EASY_VQA, OPENCLIPART, STAMPS
from camelid.data.packages import Package, members

__all__ = ["read_easy_vqa", "read_openclipart", "read_stamps"]

logger = logging.getLogger(__name__)

Paths = Mapping[Package, Path]
Row = dict[str, Any]

MAX_SVG_BYTES = 400_000
MAX_SHARED_TITLE = 4


def read_openclipart(paths: Paths) -> Iterator[Row]:
    """Drawings of the Open Clip Art Library with their English titles; only those that say public domain."""
    archive = paths[OPENCLIPART]
    titles = Counter(_title(data) for _, data in members(archive, r".*\.svg"))
    for name, data in members(archive, r".*\.svg"):
        title = _title(data)
        # A title that many share names a collection and not what is drawn. The largest files are scans traced
        # to thousands of paths, slow to draw and grey at this size.
        if not title or titles[title] > MAX_SHARED_TITLE or len(data) > MAX_SVG_BYTES:
            continue
        picture = _drawn(name, data) if b"publicdomain" in data.lower() else None
        if picture is not None:
            topic = "/".join(PurePosixPath(name).parts[4:-1])
            yield {
                "image": picture, "caption": title, "language": "en", "topic": topic, "licence": "public domain"
            }  # fmt: skip


def _title(svg: bytes) -> str:
    found = re.search(r"<dc:title>([^<]*)</dc:title>", svg.decode("utf-8", "replace"))
    return " ".join(html.unescape(found[1]).replace("_", " ").split()) if found else ""


def read_stamps(paths: Paths) -> Iterator[Row]:
    """Tux Paint's stamps: drawings and photographs with one sentence each, in up to twelve languages."""
    captions: dict[str, bytes] = {}
    pictures: dict[str, bytes] = {}
    for name, data in members(paths[STAMPS], r".*/stamps/.*\.(txt|png|svg)"):
        (captions if name.endswith(".txt") else pictures)[name.rsplit(".", 1)[0]] = data
    for stem in sorted(captions.keys() & pictures.keys()):
        picture = _drawn(stem, pictures[stem])
        if picture is None:
            continue
        first, *others = captions[stem].decode("utf-8", "replace").strip().splitlines()
        texts = {"en": first, **dict(_caption(line) for line in others if ".utf8=" in line)}
        for language in LANGUAGES:
            if text := texts.get(language, "").strip():
                yield {"image": picture, "caption": text, "language": language, "licence": "GPL-2+"}


def _caption(line: str) -> tuple[str, str]:
    language, _, text = line.partition(".utf8=")
    return language, text


def read_easy_vqa(paths: Paths, split: Literal["train", "test"]) -> Iterator[Row]:
    """Pictures of one coloured shape with a question and a one-word answer."""
    pictures, questions = {}, []
    for name, data in members(paths[EASY_VQA], rf"easy_vqa/data/{split}/(questions\.json|images/\d+\.png)"):
        if name.endswith(".json"):
            questions = json.loads(data)
        else:
            pictures[int(PurePosixPath(name).stem)] = _lossless(data)
    for question, answer, number in questions:
        yield {"image": pictures[number], "question": question, "answer": answer, "licence": "MIT"}


def _drawn(name: str, data: bytes) -> bytes | None:
    """The picture fitted to its square, or None with a word in the log where it cannot be read."""
    try:
        picture = render_svg(data) if b"<svg" in data[:20_000] else Image.open(io.BytesIO(data))
        return encode_drawing(fit(picture), is_flat=False)
    except (DataError, OSError) as error:
        logger.info("%s: left out: %s", name, error)
        return None


def _lossless(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()
