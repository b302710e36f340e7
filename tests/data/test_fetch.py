"""The larger set goes on where it stopped, refuses what was not asked for, and holds out what the starter does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
from rich.console import Console

from camelid.core.errors import DataError
from camelid.data import fetch
from camelid.data.fetch import LARGER_PARTS, LargerPart, fetch_larger_set
from camelid.data.package_texts import Chapter
from camelid.data.parts import Manifest
from camelid.data.splits import is_held_out_text
from camelid.data.starter import StarterPack


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two parts that need no package; the list fills with the names of those that were made."""
    names: list[str] = []

    def rows_of(name: str) -> Iterator[dict[str, str]]:
        names.append(name)
        yield {"text": name}

    parts = (
        LargerPart("llamas", "MIT", "the herd", (), lambda paths: rows_of("llamas")),
        LargerPart("gnus", "GPL-2+", "the other herd", (), lambda paths: rows_of("gnus"), is_copyleft=True),
    )
    monkeypatch.setattr(fetch, "LARGER_PARTS", parts)
    return names


def fetched(folder: Path, names: list[str] | None = None, **options: bool) -> Manifest:
    return fetch_larger_set(folder, names, console=Console(file=io.StringIO()), **options)


def test_a_finished_part_is_not_made_again(made: list[str], tmp_path: Path) -> None:
    assert fetched(tmp_path) == fetched(tmp_path) == Manifest.read(tmp_path)
    assert made == ["llamas"]
    assert [part.file for part in fetched(tmp_path, include_copyleft=True).parts] == [
        "gnus.parquet",
        "llamas.parquet",
    ]
    (tmp_path / "llamas.parquet").write_bytes(b"cut sho")
    fetched(tmp_path)
    assert made == ["llamas", "gnus", "llamas"]
    assert pyarrow.parquet.read_table(tmp_path / "llamas.parquet").to_pylist() == [{"text": "llamas"}]


def test_unknown_and_copyleft_parts_are_refused(made: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="alpacas"):
        fetched(tmp_path, ["alpacas"])
    with pytest.raises(DataError, match="gnus"):
        fetched(tmp_path, ["gnus"])
    assert not made


def test_held_out_chapters_do_not_come_back_with_the_larger_set(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [*StarterPack.open().prose("train"), *StarterPack.open().prose("held_out")]
    chapters = [Chapter(row.title, row.author, row.chapter, row.text) for row in everything]
    rows = list(fetch._chapters(lambda paths: iter(chapters))({}))
    assert 0 < len(rows) < len(chapters)
    assert not [row for row in rows if is_held_out_text(row["title"], row["chapter"])]


def test_pictures_captioned_with_a_held_out_concept_are_dropped() -> None:
    held_out = next(concept.name for concept in StarterPack.open().concepts if concept.is_held_out)
    captions = [
        (b"1", f"Two {held_out.upper()}s", "en"),
        (b"1", "anything", "fr"),
        (b"2", "A camelid.", "en"),
    ]
    rows = [{"image": image, "caption": text, "language": language} for image, text, language in captions]
    assert list(fetch._without_held_out(lambda paths: iter(rows))({})) == rows[2:]


def test_no_part_draws_in_the_held_out_style() -> None:
    assert not [
        part for part in LARGER_PARTS if "emoji-datasource-twitter" in {p.name for p in part.packages}
    ]
    assert len({part.name for part in LARGER_PARTS}) == len(LARGER_PARTS)
