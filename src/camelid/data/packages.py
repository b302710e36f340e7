"""Fetches packages by name and version through the registries' ordinary clients, and reads what is inside.

A package is pinned by its sha256. Under its final name in the cache there is only ever a whole file with the
right digest, so that an interrupted fetch goes on where it stopped.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from camelid.core.digest import sha256_of_file
from camelid.core.errors import DataError

__all__ = ["Package", "Registry", "cache_dir", "fetch_package", "fetch_packages", "members"]

Registry = Literal["npm", "pypi", "debian"]

SUFFIXES: dict[Registry, str] = {"npm": ".tgz", "pypi": ".whl", "debian": ".deb"}


@dataclass(frozen=True)
class Package:
    """One file of a registry; `sha256` and `num_bytes` are those of the archive as the registry hands it out."""

    registry: Registry
    name: str
    version: str
    sha256: str
    num_bytes: int
    licence: str

    @property
    def file_name(self) -> str:
        """The name in the cache: the same on every machine, whatever the client calls it."""
        stem = f"{self.registry}-{self.name.removeprefix('@')}-{self.version}"
        return re.sub(r"[^\w.+-]+", "-", stem) + SUFFIXES[self.registry]

    @property
    def command(self) -> list[str]:
        """What puts the archive, and nothing else, into the current folder."""
        if self.registry == "npm":
            return ["npm", "pack", "--loglevel=error", f"{self.name}@{self.version}"]
        if self.registry == "pypi":
            options = ["--quiet", "--no-deps", "--only-binary", ":all:"]
            return [sys.executable, "-m", "pip", "download", *options, f"{self.name}=={self.version}"]
        return ["apt-get", "download", "--quiet", f"{self.name}={self.version}"]

    def __str__(self) -> str:
        return f"{self.registry} package {self.name} {self.version}"


def cache_dir() -> Path:
    """Where packages are kept: `packages` in the folder CAMELID_CACHE names, or in `~/.cache/camelid`."""
    root = os.environ.get("CAMELID_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "camelid") / "packages"


def fetch_package(package: Package, cache: Path | None = None) -> Path:
    """The path of a package's archive, fetched unless it is already there with the right digest.

    Raises DataError where the client is missing or fails, and where the digest differs; nothing is left
    behind then.
    """
    cache = cache or cache_dir()
    path = cache / package.file_name
    if path.is_file() and sha256_of_file(path) == package.sha256:
        return path
    if shutil.which(package.command[0]) is None:
        raise DataError(f"{package}: needs the command {package.command[0]!r}, which is not on this machine")
    cache.mkdir(parents=True, exist_ok=True)
    # In the cache itself, so that the rename stays within one file system and is atomic.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as folder:
        _download(package, Path(folder))
        found = sorted(Path(folder).iterdir())
        if len(found) != 1:
            raise DataError(f"{package}: expected one file, got {[file.name for file in found]}")
        digest = sha256_of_file(found[0])
        if digest != package.sha256:
            raise DataError(f"{package}: sha256 is {digest}, expected {package.sha256}; nothing was kept")
        found[0].replace(path)
    return path


def fetch_packages(
    packages: Sequence[Package], cache: Path | None = None, *, console: Console | None = None
) -> dict[Package, Path]:
    """`fetch_package` for several, with a progress bar over their bytes on `console` (default: stderr)."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    paths = {}
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task("packages", total=sum(package.num_bytes for package in packages))
        for package in packages:
            progress.update(task, description=package.name)
            paths[package] = fetch_package(package, cache)
            progress.advance(task, package.num_bytes)
    return paths


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """The plain files of a .tgz, .whl or .deb whose whole name matches a regular expression, in archive order.

    Names of npm members begin with `package/`, those of Debian ones with `./`.
    """
    wanted = re.compile(pattern)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist() if wanted.fullmatch(name))
        return
    file = _deb_data(archive) if archive.suffix == ".deb" else archive.open("rb")
    # A stream, because these archives are hundreds of megabytes and are read once from front to back.
    with file, tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            if member.isfile() and wanted.fullmatch(member.name):
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content.read()


def _download(package: Package, folder: Path) -> None:
    result = _call(package.command, folder)
    if result.returncode and package.registry == "debian":
        # A fresh machine has no package list yet, and an old list names versions that are gone.
        _call(["apt-get", "update", "--quiet"], folder)
        result = _call(package.command, folder)
    if result.returncode:
        reason = (result.stderr or result.stdout).strip()[-600:]
        raise DataError(f"{package}: {' '.join(package.command)} ended with {result.returncode}: {reason}")


def _call(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _deb_data(archive: Path) -> io.BytesIO:
    """The uncompressed `data.tar` of a .deb: an `ar` archive of headers of 60 bytes and members padded to 2."""
    data = archive.read_bytes()
    place = 8
    while place + 60 <= len(data):
        name, size = data[place : place + 16].decode().strip().rstrip("/"), int(data[place + 48 : place + 58])
        content = data[place + 60 : place + 60 + size]
        if name == "data.tar.xz":
            return io.BytesIO(lzma.decompress(content))
        if name.startswith("data.tar"):
            return io.BytesIO(content)
        place += 60 + size + size % 2
    raise DataError(f"{archive}: no data.tar in it")
