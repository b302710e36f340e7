"""The starter pack: what the package carries so that every flow runs on real data, and what of it is held out.

Rows come out by split, and the split is decided by the pure rules of `splits`: nothing that is asked for as
"train" can contain what a model is judged on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from PIL import Image

from camelid.core.errors import DataError
from camelid.data.parts import Manifest, read_part
from camelid.data.splits import (
    HELD_OUT_STYLE,
    Split,
    is_held_out_clip,
    is_held_out_concept,
    is_held_out_gloss,
    is_held_out_text,
    is_in_share,
)

__all__ = [
    "HELD_OUT_STYLE",
    "LANGUAGES",
    "Clip",
    "Concept",
    "Drawing",
    "GlossEntry",
    "Prose",
    "Split",
    "StarterPack",
]

LANGUAGES = ("ar", "en", "fr", "de", "hi", "id", "it", "pt", "es", "tl", "th", "vi")

Row = TypeVar("Row")


@dataclass(frozen=True)
class Concept:
    """A thing with a picture and a name in each of `LANGUAGES`.

    `code_point` is like "1F431", or "1F3F3-200D-1F308" for a sequence, without variation marks. `is_held_out`
    means that no drawing and no clip of it is in any train split.
    """

    code_point: str
    emoji: str
    group: str
    subgroup: str
    names: Mapping[str, str] = field(compare=False)
    keywords: tuple[str, ...] = field(compare=False)
    is_held_out: bool

    @property
    def name(self) -> str:
        """The English name; no two concepts share it."""
        return self.names["en"]


@dataclass(frozen=True)
class Drawing:
    """A concept in one style: WebP, 48x48, with alpha; what is drawn fills nine tenths of the frame."""

    concept: Concept
    style: str
    webp: bytes = field(repr=False)

    def image(self) -> Image.Image:
        """The picture as RGBA pixels."""
        with Image.open(io.BytesIO(self.webp)) as picture:
            return picture.convert("RGBA")


@dataclass(frozen=True)
class Clip:
    """A concept in motion: animated WebP of `num_frames` evenly spaced frames, 64x64 on white."""

    concept: Concept
    webp: bytes = field(repr=False)
    num_frames: int
    duration_ms: int

    def frames(self) -> list[Image.Image]:
        """The frames as RGB pixels; frame i is shown from `i * duration_ms / num_frames` milliseconds on."""
        with Image.open(io.BytesIO(self.webp)) as clip:
            frames = []
            for number in range(self.num_frames):
                clip.seek(number)
                frames.append(clip.convert("RGB"))
            return frames


@dataclass(frozen=True)
class Prose:
    """A chapter; its paragraphs are single lines with an empty line between them."""

    title: str
    author: str
    chapter: int
    text: str = field(repr=False)


@dataclass(frozen=True)
class GlossEntry:
    """A common English word and the meaning it is used with most."""

    word: str
    part_of_speech: str
    gloss: str


class StarterPack:
    """The starter pack in a folder. A part is read, and checked against the manifest, when it is first needed.

    With a `concept_share` under 1 it is the pack of fewer concepts: what a run of minutes can learn.

    Every method raises DataError where a part is missing, cut short or changed.
    """

    def __init__(self, folder: Path, concept_share: float = 1.0) -> None:
        if not 0 < concept_share <= 1:
            raise DataError(f"concept_share must be above 0 and at most 1, got {concept_share}")
        self.folder = folder
        self.concept_share = concept_share
        self.manifest = Manifest.read(folder)

    @classmethod
    def open(cls, folder: Path | None = None, *, concept_share: float = 1.0) -> StarterPack:
        """The pack in a folder, by default the one inside the package."""
        return cls(folder or Path(str(files("camelid") / "starter")), concept_share)

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """The concepts in the order of their code points, the held-out ones included and marked."""
        return tuple(c for c in self._by_code_point.values() if is_in_share(c.code_point, self.concept_share))

    @cached_property
    def _by_code_point(self) -> dict[str, Concept]:
        concepts = (
            Concept(
                code_point=row["code_point"],
                emoji=row["emoji"],
                group=row["group"],
                subgroup=row["subgroup"],
                names=MappingProxyType({language: row[f"name_{language}"] for language in LANGUAGES}),
                keywords=tuple(row["keywords_en"]),
                is_held_out=is_held_out_concept(row["code_point"]),
            )
            for row in self._rows("concepts.parquet")
        )
        return {concept.code_point: concept for concept in concepts}

    @cached_property
    def styles(self) -> tuple[str, ...]:
        """The drawing styles, the held-out one included."""
        return tuple(sorted({drawing.style for drawing in self._drawings}))

    def drawings(self, split: Split) -> tuple[Drawing, ...]:
        """Known concepts in the styles for training; or else all that is held out, for whichever reason."""
        return _of_split(split, self._drawings, _is_held_out)

    def drawings_held_out_style(self) -> tuple[Drawing, ...]:
        """Known concepts in the style that was never seen."""
        return tuple(d for d in self._drawings if d.style == HELD_OUT_STYLE and not d.concept.is_held_out)

    def drawings_held_out_concepts(self) -> tuple[Drawing, ...]:
        """Concepts that were never seen, in every style."""
        return tuple(d for d in self._drawings if d.concept.is_held_out)

    def clips(self, split: Split) -> tuple[Clip, ...]:
        """Clips for training; or held-out ones of known concepts, whose drawings are trained on."""
        known = [clip for clip in self._clips if not clip.concept.is_held_out]
        return _of_split(split, known, lambda clip: is_held_out_clip(clip.concept.code_point))

    def clips_held_out_concepts(self) -> tuple[Clip, ...]:
        """Clips of concepts that were never seen."""
        return tuple(clip for clip in self._clips if clip.concept.is_held_out)

    def prose(self, split: Split) -> tuple[Prose, ...]:
        """Chapters in the order of their books."""
        rows = [Prose(**row) for row in self._rows("prose.parquet")]
        return _of_split(split, rows, lambda row: is_held_out_text(row.title, row.chapter))

    def glosses(self, split: Split) -> tuple[GlossEntry, ...]:
        """Glosses in alphabetical order, one to a word; synonyms with one gloss are on one side."""
        rows = [GlossEntry(**row) for row in self._rows("glosses.parquet")]
        return _of_split(split, rows, lambda row: is_held_out_gloss(row.gloss))

    @cached_property
    def _drawings(self) -> tuple[Drawing, ...]:
        rows = self._rows_of_concepts("emoji.parquet")
        return tuple(Drawing(concept, row["style"], row["image"]) for concept, row in rows)

    @cached_property
    def _clips(self) -> tuple[Clip, ...]:
        rows = self._rows_of_concepts("clips.parquet")
        return tuple(
            Clip(concept, row["image"], row["num_frames"], row["duration_ms"]) for concept, row in rows
        )

    def _rows_of_concepts(self, file: str) -> Iterator[tuple[Concept, dict[str, Any]]]:
        """A part's rows with what they show, as far as it is in the share."""
        wanted = set(self.concepts)
        for row in self._rows(file):
            concept = self._by_code_point.get(row["code_point"])
            if concept is None:
                raise DataError(
                    f"{self.folder}: {file} shows {row['code_point']}, which is not in concepts.parquet"
                )
            if concept in wanted:
                yield concept, row

    def _rows(self, file: str) -> list[dict[str, Any]]:
        return read_part(self.folder, self.manifest.part(file))


def _is_held_out(drawing: Drawing) -> bool:
    return drawing.concept.is_held_out or drawing.style == HELD_OUT_STYLE


def _of_split(split: Split, rows: Sequence[Row], is_held_out: Callable[[Row], bool]) -> tuple[Row, ...]:
    if split not in get_args(Split):
        raise DataError(f"split must be one of {get_args(Split)}, got {split!r}")
    return tuple(row for row in rows if is_held_out(row) == (split == "held_out"))
