"""Your own data as sources: JSON lines, parquet tables and folders of text.

Files are opened and checked when the source is made, so that a wrong file stops a run before it starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from camelid.core.errors import ConfigError, DataError
from camelid.core.messages import TextPart
from camelid.data.epochs import epoch_order, permutation
from camelid.data.example import Document, Example, Source
from camelid.data.rows import COLUMN_RULES, COLUMNS, example_from_row

__all__ = ["JsonlSource", "ParquetSource", "TextFolderSource", "cut_at_paragraphs", "open_sources"]


class JsonlSource:
    """A file with one JSON object per line, by the rules of `rows.example_from_row`.

    Relative picture and clip paths start at the file's folder. The places of the lines are found once; a
    line is read when it is drawn. Raises DataError for a missing or empty file, for a bad line when drawn.
    """

    def __init__(self, path: Path, *, name: str | None = None, seed: int = 0) -> None:
        self.path = path
        self.name = name or path.stem
        self.seed = seed
        self._offsets = np.array(list(self._find_lines()), dtype=np.int64)
        if not len(self._offsets):
            raise DataError(f"{path}: no lines in it")

    def _find_lines(self) -> Iterator[int]:
        """Byte offset of every line that is not blank."""
        place = 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if line.strip():
                        yield place
                    place += len(line)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._offsets)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The line at draw `index`; nothing is left to chance."""
        number = epoch_order(len(self), index, self.seed)
        with self.path.open("rb") as file:
            file.seek(int(self._offsets[number]))
            line = file.readline()
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}, example {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{self.path}, example {number}: expected an object, got {type(row).__name__}")
        return example_from_row(row, self.path.parent)


class ParquetSource:
    """A parquet file with columns by the rules of `rows.example_from_row`.

    Epochs shuffle the row groups, and the rows within each, so that every group is read once per epoch and
    one at a time is in memory. Raises DataError for a missing or truncated file or other columns.
    """

    def __init__(self, path: Path, *, name: str | None = None, seed: int = 0) -> None:
        self.path = path
        self.name = name or path.stem
        self.seed = seed
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable parquet file: {error}") from error
        present = self._file.schema_arrow.names
        self._columns = [column for column in COLUMNS if column in present]
        if not {"messages", "parts", "image", "text"} & set(self._columns):
            raise DataError(f"{path}: {COLUMN_RULES}; the columns are {present}")
        num_groups, group_of = self._file.num_row_groups, self._file.metadata.row_group
        self._group_sizes = np.array(
            [group_of(group).num_rows for group in range(num_groups)], dtype=np.int64
        )
        if not len(self):
            raise DataError(f"{path}: no rows in {num_groups} row groups")

    def __len__(self) -> int:
        return int(self._group_sizes.sum())

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The row at draw `index`; nothing is left to chance."""
        epoch, place = divmod(index, len(self))
        groups = permutation(len(self._group_sizes), self.seed, epoch)
        ends = self._group_sizes[groups].cumsum()
        position = int(np.searchsorted(ends, place, side="right"))
        group, size = int(groups[position]), int(self._group_sizes[groups[position]])
        row = int(permutation(size, self.seed, epoch, group)[place - int(ends[position]) + size])
        try:
            (values,) = self._read_group(group).slice(row, 1).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{self.path}, row group {group}: {error}") from error
        return example_from_row(values, self.path.parent)

    @cached_property
    def _read_group(self) -> Callable[[int], pyarrow.Table]:
        """Reads a row group; the last one stays in memory."""
        return lru_cache(maxsize=1)(lambda group: self._file.read_row_group(group, self._columns))


class TextFolderSource:
    """All *.txt and *.md files under a folder, as documents of at most `max_chars`, cut between paragraphs.

    Raises ConfigError for a max_chars below 1, DataError for a folder without text or not in UTF-8.
    """

    def __init__(
        self, folder: Path, *, max_chars: int = 4000, name: str | None = None, seed: int = 0
    ) -> None:
        if max_chars < 1:
            raise ConfigError(f"max_chars must be at least 1, got {max_chars}")
        self.folder = folder
        self.name = name or folder.name
        self.seed = seed
        self._spans: list[tuple[Path, int, int]] = []
        paths = sorted(path for path in folder.rglob("*.*") if path.suffix in (".txt", ".md"))
        for path in paths:
            self._spans.extend(_document_spans(path, max_chars))
        if not self._spans:
            raise DataError(f"{folder}: no text in {len(paths)} .txt and .md files")

    def __len__(self) -> int:
        return len(self._spans)

    def example(self, index: int, rng: np.random.Generator) -> Document:
        """The document at draw `index`; nothing is left to chance."""
        path, start, num_bytes = self._spans[epoch_order(len(self), index, self.seed)]
        try:
            with path.open("rb") as file:
                file.seek(start)
                text = file.read(num_bytes).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} changed since the run began: {error}") from error
        return Document((TextPart(text.strip()),))


def open_sources(paths: Sequence[str], weights: Sequence[float], seed: int) -> dict[Source, float]:
    """Users' own data with its weights (none: all alike): .jsonl files, .parquet files, folders of texts."""
    weights = weights or (1.0,) * len(paths)
    if len(weights) != len(paths):
        raise ConfigError(f"{len(paths)} paths but {len(weights)} path_weights")
    return {_open_source(Path(path), seed): weight for path, weight in zip(paths, weights, strict=True)}


def _open_source(path: Path, seed: int) -> Source:
    if path.is_dir():
        return TextFolderSource(path, seed=seed)
    if path.suffix == ".jsonl":
        return JsonlSource(path, seed=seed)
    if path.suffix == ".parquet":
        return ParquetSource(path, seed=seed)
    raise ConfigError(f"{path}: expected a .jsonl file, a .parquet file or a folder of texts")


def _document_spans(path: Path, max_chars: int) -> Iterator[tuple[Path, int, int]]:
    """File, first byte and number of bytes of each document."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    place = 0
    for piece in cut_at_paragraphs(text, max_chars):
        num_bytes = len(piece.encode("utf-8"))
        if piece.strip():
            yield path, place, num_bytes
        place += num_bytes


def cut_at_paragraphs(text: str, max_chars: int) -> Iterator[str]:
    """Pieces of at most `max_chars` that join to the text again.

    Each ends after the last blank line that fits, or else after the last line, word or character.
    """
    place = 0
    while len(text) - place > max_chars:
        window = text[place : place + max_chars]
        ends = (window.rfind(mark) + len(mark) for mark in ("\n\n", "\n", " ") if mark in window)
        cut = next(ends, max_chars)
        yield text[place : place + cut]
        place += cut
    if place < len(text):
        yield text[place:]
