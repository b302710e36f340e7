"""Data sets of the Hugging Face Hub, streamed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from camelid.core.errors import ConfigError, DataError
from camelid.data.example import Example
from camelid.data.rows import COLUMN_RULES, COLUMNS, example_from_row

__all__ = ["HubSource"]


class HubSource:
    """A data set of the Hub, in its own order, epoch after epoch, without downloading it first.

    `columns` renames columns to those of `rows.example_from_row`, for example `{"content": "text"}`.
    Resuming at draw n reads and drops the n rows before it: download time, no more. There is no shuffle
    buffer, because its contents would be state that a killed run loses. Needs the optional
    package `datasets`; raises ConfigError without it, and DataError for rows or data sets that do not fit.
    """

    def __init__(
        self,
        dataset: str,
        *,
        subset: str | None = None,
        split: str = "train",
        columns: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        try:
            import datasets
        except ImportError as error:
            raise ConfigError("data sets of the Hub need a package: pip install 'camelid[hub]'") from error
        self.name = name or dataset
        self._columns = dict(columns or {})
        try:
            loaded = datasets.load_dataset(dataset, subset, split=split, streaming=True)
            # Pictures stay encoded: they are decoded once, where every other picture is.
            self._rows = loaded.decode(False) if hasattr(loaded, "decode") else loaded
        except (OSError, ValueError) as error:
            raise DataError(f"data set {dataset!r}, split {split!r}: {error}") from error
        self._iterator: Iterator[Mapping[str, Any]] = iter(())
        self._next_index = -1

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The row at draw `index`. Cheap when draws come one after another."""
        if index != self._next_index:
            self._iterator = itertools.islice(self._epochs(), index, None)
        row = next(self._iterator)
        self._next_index = index + 1
        renamed = {self._columns.get(column, column): value for column, value in row.items()}
        if not COLUMNS & renamed.keys():
            raise DataError(f"{self.name}: {COLUMN_RULES}; the columns are {sorted(row)}")
        return example_from_row(renamed, Path())

    def _epochs(self) -> Iterator[Mapping[str, Any]]:
        while True:
            is_empty = True
            for row in self._rows:
                is_empty = False
                yield row
            if is_empty:
                raise DataError(f"{self.name}: no rows")
