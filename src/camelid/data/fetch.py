"""The larger data set: fetched by name, converted to Parquet parts, and clean of what the starter pack holds out.

Parts are finished one by one, so a run that was killed goes on with the first part it has not finished.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from camelid.core.digest import sha256_of_file
from camelid.core.errors import DataError
from camelid.data import package_table as table
from camelid.data.package_concepts import CONCEPT_PACKAGES, LANGUAGES, read_concepts
from camelid.data.package_drawings import STYLES, read_clips, read_drawings
from camelid.data.package_pictures import read_easy_vqa, read_openclipart, read_stamps
from camelid.data.package_texts import Chapter, read_austen, read_bible, read_commentary, read_glosses
from camelid.data.packages import Package, fetch_packages
from camelid.data.parts import MANIFEST, Manifest, Origin, Part, write_part
from camelid.data.splits import (
    HELD_OUT_STYLE,
    base_code_point,
    is_held_out_clip,
    is_held_out_concept,
    is_held_out_gloss,
    is_held_out_text,
)
from camelid.data.starter import StarterPack

__all__ = ["LARGER_PARTS", "LargerPart", "fetch_larger_set"]

Paths = Mapping[Package, Path]
Row = dict[str, Any]


@dataclass(frozen=True)
class LargerPart:
    """A part that can be fetched. `is_copyleft` ones only come when asked for."""

    name: str
    licence: str
    attribution: str
    packages: tuple[Package, ...]
    rows: Callable[[Paths], Iterable[Row]]
    is_copyleft: bool = False

    @property
    def file(self) -> str:
        """The file it is written to."""
        return f"{self.name}.parquet"


def fetch_larger_set(
    out_dir: Path,
    names: Sequence[str] | None = None,
    *,
    include_copyleft: bool = False,
    cache: Path | None = None,
    console: Console | None = None,
) -> Manifest:
    """Brings the named parts (default: all) to `out_dir` as `<name>.parquet`, and returns the manifest there.

    A part that is there already, from the same packages and with its digest, is left alone. Raises DataError
    for an unknown name, a copyleft part without `include_copyleft`, and a package that cannot be had.
    """
    console = console or Console(stderr=True)
    out_dir.mkdir(parents=True, exist_ok=True)
    done = {part.file: part for part in Manifest.read(out_dir).parts} if (out_dir / MANIFEST).exists() else {}
    for part in _chosen(names, include_copyleft):
        if _is_there(out_dir, part, done.get(part.file)):
            console.print(f"{part.name}: there already")
            continue
        paths = fetch_packages(part.packages, cache, console=console)
        done[part.file] = write_part(
            out_dir / part.file, _with_progress(part.rows(paths), part.name, console),
            licence=part.licence, attribution=part.attribution, packages=part.packages,
        )  # fmt: skip
        _manifest(done).write(out_dir)
    return _manifest(done)


def _chosen(names: Sequence[str] | None, include_copyleft: bool) -> list[LargerPart]:
    parts = {part.name: part for part in LARGER_PARTS}
    unknown = sorted(set(names or ()) - parts.keys())
    if unknown:
        raise DataError(f"no such part: {unknown}; there are {sorted(parts)}")
    refused = [name for name in names or () if parts[name].is_copyleft and not include_copyleft]
    if refused:
        raise DataError(f"{refused} are under copyleft licences: ask for them with include_copyleft")
    chosen = parts.values() if names is None else [parts[name] for name in names]
    return [part for part in chosen if include_copyleft or not part.is_copyleft]


def _is_there(out_dir: Path, part: LargerPart, entry: Part | None) -> bool:
    path = out_dir / part.file
    origins = tuple(Origin.of(package) for package in part.packages)
    return (
        entry is not None
        and entry.packages == origins
        and path.is_file()
        and sha256_of_file(path) == entry.sha256
    )


def _manifest(done: Mapping[str, Part]) -> Manifest:
    versions = {name: importlib.metadata.version(name) for name in ("pillow", "pyarrow", "resvg-py")}
    return Manifest.of([done[file] for file in sorted(done)], versions)


def _with_progress(rows: Iterable[Row], name: str, console: Console) -> list[Row]:
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,} rows"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        return list(progress.track(rows, description=name))


def _chapters(read: Callable[[Paths], Iterator[Chapter]]) -> Callable[[Paths], Iterator[Row]]:
    def rows(paths: Paths) -> Iterator[Row]:
        return (vars(row) for row in read(paths) if not is_held_out_text(row.title, row.chapter))

    return rows


def _glosses(paths: Paths) -> Iterator[Row]:
    for row in read_glosses(paths):
        if not is_held_out_gloss(row.gloss):
            text = f"{row.word} ({row.part_of_speech}): {row.gloss}"
            yield {**vars(row), "text": text}


def _drawings(*names: str) -> Callable[[Paths], Iterator[Row]]:
    def rows(paths: Paths) -> Iterator[Row]:
        concepts = [
            concept
            for concept in read_concepts(paths, is_everything=True)
            if not is_held_out_concept(concept.code_point)
        ]
        for style in STYLES:
            if style.name not in names or style.name == HELD_OUT_STYLE:
                continue
            for concept, image in read_drawings(style, paths, concepts):
                shown = {"code_point": concept.code_point, "style": style.name, "image": image}
                for language in LANGUAGES:
                    yield {
                        **shown, "caption": concept.names[language],
                        "language": language, "licence": style.package.licence,
                    }  # fmt: skip

    return rows


def _clips(paths: Paths) -> Iterator[Row]:
    names = {concept.code_point: concept.names["en"] for concept in read_concepts(paths, is_everything=True)}

    def is_wanted(code_point: str) -> bool:
        return not is_held_out_clip(code_point) and base_code_point(code_point) in names

    for code_point, clip, duration in read_clips(paths, is_wanted):
        # `clip` and not `image`, so that nobody takes it for a still.
        yield {
            "code_point": code_point, "clip": clip, "num_frames": 8, "duration_ms": duration,
            "caption": names[base_code_point(code_point)], "language": "en", "licence": "MIT",
        }  # fmt: skip


def _without_held_out(read: Callable[[Paths], Iterator[Row]]) -> Callable[[Paths], Iterator[Row]]:
    """Drops pictures whose caption, in any language, names a held-out concept in English."""

    def rows(paths: Paths) -> Iterator[Row]:
        held_out = [concept.name for concept in StarterPack.open().concepts if concept.is_held_out]
        named = re.compile(rf"\b({'|'.join(map(re.escape, held_out))})(s|es)?\b", re.IGNORECASE)
        is_dropped: dict[bytes, bool] = {}
        for row in read(paths):
            if row["language"] == "en":
                is_dropped[row["image"]] = named.search(row["caption"]) is not None
            if not is_dropped.get(row["image"], False):
                yield row

    return rows


LARGER_PARTS = (
    LargerPart("austen", "public domain", "Jane Austen", (table.AUSTEN,), _chapters(read_austen)),
    LargerPart(
        "bible", "public domain", "World English Bible, eBible.org", (table.WEB_BIBLE,), _chapters(read_bible)
    ),
    LargerPart("commentary", "public domain", "Matthew Henry", (table.COMMENTARY,), _chapters(read_commentary)),
    LargerPart(
        "glosses", "WordNet 3.0", "WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.",
        (table.WORDNET,), _glosses,
    ),
    LargerPart(
        "easy_vqa", "MIT", "easy-VQA, Victor Zhou", (table.EASY_VQA,), lambda paths: read_easy_vqa(paths, "train")
    ),
    LargerPart(
        "easy_vqa_test", "MIT", "easy-VQA, Victor Zhou: its test questions, for judging only",
        (table.EASY_VQA,), lambda paths: read_easy_vqa(paths, "test"),
    ),
    LargerPart(
        "openclipart", "public domain", "Open Clip Art Library", (table.OPENCLIPART,),
        _without_held_out(read_openclipart),
    ),
    LargerPart(
        "drawings", "Apache-2.0 AND MIT", "noto: Google; fluent: Microsoft. Names: Unicode CLDR (Unicode-3.0)",
        (*CONCEPT_PACKAGES, table.FLUENT), _drawings("noto", "fluent-flat", "fluent-color"),
    ),
    LargerPart(
        "clips", "MIT", "Microsoft Fluent Emoji, animated; packaged by LobeHub. Names: Unicode CLDR (Unicode-3.0)",
        (*CONCEPT_PACKAGES, *table.CLIPS), _clips,
    ),
    LargerPart(
        "drawings_openmoji", "CC-BY-SA-4.0", "OpenMoji. Names: Unicode CLDR (Unicode-3.0)",
        (*CONCEPT_PACKAGES, table.OPENMOJI), _drawings("openmoji"), is_copyleft=True,
    ),
    LargerPart(
        "stamps", "GPL-2+", "Tux Paint", (table.STAMPS,), _without_held_out(read_stamps), is_copyleft=True
    ),
)  # fmt: skip
