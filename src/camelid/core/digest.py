"""Digests: sha256 in hex, everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

__all__ = ["sha256_of_bytes", "sha256_of_file", "sha256_of_text"]


def sha256_of_bytes(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_text(text: str) -> str:
    """Hex sha256 of the UTF-8 text."""
    return sha256_of_bytes(text.encode("utf-8"))


def sha256_of_file(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Hex sha256 of a file, read in pieces; `progress` hears of each piece's bytes."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()
