"""A data set on disk: Parquet parts, and a manifest that knows the digest, licence and origin of each."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from camelid.core.config import Config
from camelid.core.digest import sha256_of_bytes
from camelid.core.errors import ConfigError, DataError
from camelid.core.files import write_bytes_atomically, write_text_atomically
from camelid.data.packages import Package

__all__ = ["MANIFEST", "Manifest", "Origin", "Part", "read_part", "write_part"]

MANIFEST = "manifest.json"
SCHEMA = "starter/1"
ROW_GROUP_ROWS = 16_384


@dataclass(frozen=True)
class Origin(Config):
    """A package that a part was made from."""

    registry: str
    name: str
    version: str
    sha256: str

    @classmethod
    def of(cls, package: Package) -> Origin:
        """The origin that a pinned package is."""
        return cls(package.registry, package.name, package.version, package.sha256)


@dataclass(frozen=True)
class Part(Config):
    """One file of a data set. `bytes` and `sha256` are those of the file, `rows` its number of rows."""

    file: str
    sha256: str
    rows: int
    bytes: int
    licence: str
    attribution: str
    packages: tuple[Origin, ...]


@dataclass(frozen=True)
class Manifest(Config):
    """All parts of a data set, and the versions of what encoded them, without which bytes may differ."""

    schema: str
    made_with: dict[str, str]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, parts: Sequence[Part], made_with: Mapping[str, str]) -> Manifest:
        """A manifest of this version of the layout."""
        return cls(SCHEMA, dict(made_with), tuple(parts))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a folder; raises DataError where there is none that can be read."""
        path = folder / MANIFEST
        try:
            manifest = cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ConfigError) as error:
            raise DataError(f"{path}: no readable manifest: {error}") from error
        if manifest.schema != SCHEMA:
            raise DataError(f"{path}: schema is {manifest.schema!r}, expected {SCHEMA!r}")
        return manifest

    def write(self, folder: Path) -> None:
        """Writes it into a folder."""
        write_text_atomically(folder / MANIFEST, self.to_json())

    def part(self, file: str) -> Part:
        """The part with a file name; raises DataError where there is none."""
        for part in self.parts:
            if part.file == file:
                return part
        raise DataError(f"no part {file!r} in the manifest, only {[part.file for part in self.parts]}")


def write_part(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    licence: str,
    attribution: str,
    packages: Sequence[Package],
) -> Part:
    """Writes rows as Parquet, the same bytes every time, and returns the manifest's entry.

    All rows need the columns of the first. Raises DataError for no rows at all.
    """
    if not rows:
        raise DataError(f"{path.name}: no rows to write")
    buffer = io.BytesIO()
    # No statistics and no Arrow schema: pictures have no useful minimum, and both would cost bytes.
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([dict(row) for row in rows]),
        buffer,
        compression="zstd",
        compression_level=19,
        write_statistics=False,
        store_schema=False,
        row_group_size=ROW_GROUP_ROWS,
    )
    data = buffer.getvalue()
    write_bytes_atomically(path, data)
    origins = tuple(Origin.of(package) for package in packages)
    return Part(path.name, sha256_of_bytes(data), len(rows), len(data), licence, attribution, origins)


def read_part(folder: Path, part: Part) -> list[dict[str, Any]]:
    """The rows of a part; raises DataError where the file is missing or its digest differs."""
    path = folder / part.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    digest = sha256_of_bytes(data)
    if digest != part.sha256:
        raise DataError(
            f"{path}: sha256 is {digest} over {len(data)} bytes, expected {part.sha256} over {part.bytes} bytes"
        )
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    return rows
