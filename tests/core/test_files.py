"""Files appear whole, replace whole, or stay as they were."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from camelid.core import files
from camelid.core.files import sync_directory, write_bytes_atomically, write_text_atomically


def test_bytes_and_text_go_in_as_they_are(tmp_path: Path) -> None:
    write_bytes_atomically(tmp_path / "bytes", b"\x00\r\n\xff")
    write_text_atomically(tmp_path / "text", "Käse 駱駝 🐫\n")
    assert (tmp_path / "bytes").read_bytes() == b"\x00\r\n\xff"
    assert (tmp_path / "text").read_bytes() == "Käse 駱駝 🐫\n".encode()
    write_text_atomically(tmp_path / "text", "")
    assert (tmp_path / "text").read_bytes() == b""
    assert {path.name for path in tmp_path.iterdir()} == {"bytes", "text"}


def breaks(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "run.json"
    write_text_atomically(path, "old")
    monkeypatch.setattr(*(os, "fsync") if where == "fsync" else (Path, "replace"), breaks)
    with pytest.raises(OSError, match="No space left"):
        write_text_atomically(path, "new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("run.json", "old")]


def test_data_are_on_disk_before_the_name_and_the_name_before_we_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that reaches the disk before its contents is how files become empty in a power cut."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "data")
        fsync(handle)

    def noting_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    write_text_atomically(tmp_path / "a", "x")
    assert events == ["data", "rename", "folder"]


def test_a_synced_folder_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    close: Callable[[int], None] = os.close
    monkeypatch.setattr(files.os, "close", lambda handle: (closed.append(handle), close(handle))[1])
    sync_directory(tmp_path)
    monkeypatch.setattr(os, "fsync", breaks)
    with pytest.raises(OSError, match="No space left"):
        sync_directory(tmp_path)
    assert len(closed) == 2
