"""Uploaded pictures and clips, for a while: in a temporary folder, each seen by the key that brought it alone."""

from __future__ import annotations

import hashlib
import mimetypes
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from camelid.serve.api_error import ApiError

__all__ = ["FileStore", "StoredFile", "owner_of"]

MediaKind = Literal["image", "video"]


class Readable(Protocol):
    """A file that is open for reading, in memory or not."""

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes, fewer at the end."""


def owner_of(authorization: str | None) -> str:
    """Who asks, without keeping the key. Where no keys are needed all are one."""
    return hashlib.sha256((authorization or "").partition(" ")[2].encode()).hexdigest()


@dataclass(frozen=True)
class StoredFile:
    """One upload. Times are seconds since 1970."""

    id: str
    owner: str
    path: Path
    kind: MediaKind
    name: str
    num_bytes: int
    created_at: int
    expires_at: int

    def json(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.num_bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.name,
            "purpose": "vision",
            "status": "processed",
        }


class FileStore:
    """Bytes are set aside before they come, so that uploads side by side cannot fill more than the limit."""

    def __init__(
        self, max_total_bytes: int, lifetime_seconds: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_total, self._lifetime, self._clock = max_total_bytes, lifetime_seconds, clock
        self._folder: Path | None = None
        self._files: dict[str, StoredFile] = {}
        self._reserved = 0

    def reserve(self, num_bytes: int) -> None:
        """Raises ApiError 429 if there is no room; give the same number to `unreserve` later."""
        self._expire()
        used = self._reserved + sum(file.num_bytes for file in self._files.values())
        if used + num_bytes > self._max_total:
            first = min((file.expires_at for file in self._files.values()), default=int(self._clock()) + 1)
            wait = max(1, first - int(self._clock()))
            raise ApiError(
                429,
                f"{num_bytes:,} bytes do not fit: {used:,} of {self._max_total:,} are taken; files go by themselves",
                code="storage_full",
                headers={"Retry-After": str(wait)},
            )
        self._reserved += num_bytes

    def unreserve(self, num_bytes: int) -> None:
        """After the file has been kept, or not."""
        self._reserved -= num_bytes

    def keep(
        self, file_id: str, owner: str, name: str, stated_type: str | None, source: Readable
    ) -> StoredFile:
        """Copies a file that has come whole. Raises ApiError for what is neither a picture nor a clip by its type."""
        kind = _kind(name, stated_type)
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="camelid-files-"))
        path = self._folder / file_id
        with path.open("xb") as file:
            shutil.copyfileobj(source, file)
        now = int(self._clock())
        stored = StoredFile(file_id, owner, path, kind, name, path.stat().st_size, now, now + self._lifetime)
        self._files[file_id] = stored
        return stored

    def find(self, file_id: str, owner: str, place: str | None = None) -> StoredFile:
        """Raises ApiError 404 for what is not there, not there any more, or another's."""
        self._expire()
        file = self._files.get(file_id)
        if file is None or file.owner != owner:
            raise ApiError(404, f"no file {file_id!r}", param=place, code="file_not_found")
        return file

    def delete(self, file_id: str, owner: str) -> None:
        """Raises ApiError 404 as `find`."""
        file = self.find(file_id, owner)
        del self._files[file_id]
        file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """All go."""
        self._files.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _expire(self) -> None:
        now = self._clock()
        for file in [file for file in self._files.values() if file.expires_at <= now]:
            del self._files[file.id]
            file.path.unlink(missing_ok=True)


def _kind(name: str, stated_type: str | None) -> MediaKind:
    guessed = mimetypes.guess_type(name)[0] or ""
    stated = (stated_type or "").partition(";")[0].strip().lower()
    for kind in (stated, guessed) if stated != "application/octet-stream" else (guessed,):
        if kind.startswith("image/"):
            return "image"
        if kind.startswith("video/"):
            return "video"
    raise ApiError(
        400,
        f"file: {name!r} is neither image/… nor video/… by its type or name",
        param="file",
        code="invalid_value",
    )
