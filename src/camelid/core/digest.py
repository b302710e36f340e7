"""Digests: sha256 in hex, everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["sha256_of_bytes", "sha256_of_file", "sha256_of_text"]


def sha256_of_bytes(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_text(text: str) -> str:
    """Hex sha256 of the UTF-8 text."""
    return sha256_of_bytes(text.encode("utf-8"))


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
