"""Running text and dictionary glosses out of their packages."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from camelid.core.errors import DataError
from camelid.data.package_table import AUSTEN, COMMENTARY, WEB_BIBLE, WORDNET
from camelid.data.packages import Package, members

__all__ = ["Chapter", "Gloss", "read_austen", "read_bible", "read_commentary", "read_glosses"]

MIN_CHAPTER_CHARS = 400


@dataclass(frozen=True)
class Chapter:
    """A chapter of a book, counted from 1 through all its volumes; paragraphs are apart by an empty line."""

    title: str
    author: str
    chapter: int
    text: str


@dataclass(frozen=True)
class Gloss:
    """What a word means. `sense` counts from 1, the commonest; `num_uses` is how often a hand-tagged corpus had it."""

    word: str
    part_of_speech: str
    gloss: str
    sense: int
    num_uses: int


def read_austen(paths: Mapping[Package, Path]) -> Iterator[Chapter]:
    """The six novels of Jane Austen, chapter by chapter."""
    ((_, data),) = members(paths[AUSTEN], r".*/janeaustenr/data/Rdata\.rdb")
    place = 0
    while place < len(data):
        # Each record: its unpacked length in four bytes, then a zlib stream that knows its own end.
        stream = zlib.decompressobj()
        lines = _strings(stream.decompress(data[place + 4 :]))
        place = len(data) - len(stream.unused_data)
        title = next(line for line in lines if line).title().replace(" And ", " and ")
        for number, text in enumerate(_chapters(lines), 1):
            yield Chapter(title, "Jane Austen", number, text)


def _strings(record: bytes) -> list[str]:
    """The strings of an R character vector in XDR form: a marker, a length in four bytes, the text."""
    lines, place = [], 0
    while (place := record.find(b"\x00\x04\x00\x09", place)) >= 0:
        (length,) = struct.unpack_from(">i", record, place + 4)
        start = place + 8
        place = start + max(length, 0)
        lines.append(record[start:place].decode())
    return lines


def _chapters(lines: list[str]) -> Iterator[str]:
    """The text between chapter headings; what stands before the first is the title page."""
    heading = re.compile(r"chapter [ivxlc\d]+\.?", re.I)
    last = re.compile(r"the end|finis|a note on the text", re.I)
    chapter: list[str] | None = None
    for line in lines:
        stripped = line.strip()
        if heading.fullmatch(stripped):
            if chapter:
                yield _reflowed(chapter)
            chapter = []
        elif last.fullmatch(stripped):
            break
        elif chapter is not None and not re.fullmatch(r"volume [ivx]+", stripped, re.I):
            chapter.append(line)
    if chapter:
        yield _reflowed(chapter)


def _reflowed(lines: list[str]) -> str:
    """One line per paragraph; `_stressed_` words lose their marks."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    plain = (re.sub(r"_([^_]+)_", r"\1", " ".join(paragraph.split())) for paragraph in paragraphs)
    return "\n\n".join(paragraph for paragraph in plain if paragraph)


def read_glosses(paths: Mapping[Package, Path]) -> Iterator[Gloss]:
    """Every sense of every word of WordNet, in alphabetical order of the words, examples left out."""
    wanted = r"\./usr/share/wordnet/(index\.(noun|verb|adj|adv)|data\..*|cntlist\.rev)"
    files = {
        Path(name).name: data.decode("latin-1").splitlines() for name, data in members(paths[WORDNET], wanted)
    }
    kinds = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}
    uses = dict(map(_num_uses, files["cntlist.rev"]))
    found = []
    for kind, suffix in zip(kinds, ("noun", "verb", "adj", "adv"), strict=True):
        glosses = dict(_synset_gloss(line) for line in files[f"data.{suffix}"] if not line.startswith(" "))
        for line in files[f"index.{suffix}"]:
            if line.startswith(" "):
                continue
            lemma, _, num_senses, *fields = line.split()
            word = lemma.replace("_", " ")
            for sense, offset in enumerate(fields[-int(num_senses) :], 1):
                num_uses = uses.get((lemma, kind, sense), 0)
                found.append(Gloss(word, kinds[kind], glosses[offset], sense, num_uses))
    yield from sorted(found, key=lambda gloss: (gloss.word, gloss.part_of_speech, gloss.sense))


def _num_uses(line: str) -> tuple[tuple[str, str, int], int]:
    key, sense, count = line.split()
    word, rest = key.split("%")
    return (word, "nvara"[int(rest[0]) - 1], int(sense)), int(count)


def _synset_gloss(line: str) -> tuple[str, str]:
    head, _, gloss = line.partition(" | ")
    # Examples follow in quotation marks.
    return head.split()[0], re.split(r'[;:,]?\s*"', gloss.strip())[0].strip(" ;")


def read_bible(paths: Mapping[Package, Path]) -> Iterator[Chapter]:
    """The World English Bible in blocks of running text, mostly a book each."""
    return _sword(paths[WEB_BIBLE], "World English Bible", "various")


def read_commentary(paths: Mapping[Package, Path]) -> Iterator[Chapter]:
    """Matthew Henry's Concise Commentary, in blocks of mostly a book each."""
    return _sword(paths[COMMENTARY], "Concise Commentary on the Whole Bible", "Matthew Henry")


def _sword(archive: Path, title: str, author: str) -> Iterator[Chapter]:
    """A SWORD module: an index of (offset, packed size, size) in little-endian words, and zlib blocks."""
    files = {Path(name).name: data for name, data in members(archive, r".*/modules/.*/[on]t\.bz[sz]")}
    if not files:
        raise DataError(f"{archive}: no SWORD module in it")
    number = 0
    for index_name in sorted(files, reverse=True):
        if not index_name.endswith("s"):
            continue
        blocks = files[index_name[:-1] + "z"]
        for offset, size, _ in struct.iter_unpack("<III", files[index_name]):
            block = zlib.decompress(blocks[offset : offset + size]) if size else b""
            text = _plain(block.decode("utf-8", "replace"))
            if len(text) >= MIN_CHAPTER_CHARS:
                number += 1
                yield Chapter(title, author, number, text)


def _plain(marked: str) -> str:
    """Text without tags: notes go altogether, ends of verses and paragraphs become spaces and lines."""
    text = re.sub(r"<(note|title|head)\b.*?</\1>", " ", marked, flags=re.S)
    text = re.sub(r"</?(p|lb|lg|l|div|chapter|br|milestone|cl)\b[^>]*>", "\n", text, flags=re.I)
    text = re.sub(r"<[^>]*>", "", text)
    for name, sign in (("quot", '"'), ("apos", "'"), ("lt", "<"), ("gt", ">"), ("nbsp", " "), ("amp", "&")):
        text = text.replace(f"&{name};", sign)
    text = re.sub(r"[\x00-\x09\x0b-\x1f]+", " ", text)
    text = re.sub(r"\s+([,.;:!?’”])", r"\1", text)
    return "\n\n".join(" ".join(line.split()) for line in text.split("\n") if line.strip())
