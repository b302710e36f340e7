"""Our reader and writer against the library's, and files that lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from camelid.checkpoint.lazy_tensor import in_memory
from camelid.checkpoint.safetensors_file import DTYPES, read_safetensors, write_safetensors
from camelid.core.errors import CheckpointError

TENSORS = {
    f"{name}-{'x'.join(map(str, shape))}": (torch.arange(count) % 2).reshape(shape).to(dtype)
    for name, dtype in DTYPES.items()
    for shape, count in (((3, 5), 15), ((), 1), ((0, 4), 0), ((7,), 7))
}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = write_safetensors(
        path, {name: in_memory(tensor) for name, tensor in TENSORS.items()}, {"format": "pt"}
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name].float(), tensor.float()), name


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    found = read_safetensors(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (found[name].shape, found[name].dtype) == (tuple(tensor.shape), tensor.dtype)
        assert torch.equal(found[name].read(None).float(), tensor.float()), name
        if tensor.ndim and len(tensor):
            assert torch.equal(found[name].read(len(tensor) - 1).float(), tensor[-1].float()), name


def test_tensors_that_are_not_contiguous(tmp_path: Path) -> None:
    tensor = torch.randn(6, 4).T
    write_safetensors(tmp_path / "a", {"a": in_memory(tensor)}, {})
    assert torch.equal(load_file(tmp_path / "a")["a"], tensor)


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    seen: list[int] = []
    write_safetensors(tmp_path / "a", {"a": in_memory(torch.zeros(1 << 23))}, {}, seen.append)
    assert sum(seen) == (tmp_path / "a").stat().st_size and len(seen) > 2


@pytest.mark.parametrize("kept", [0, 7, 8, 40, 0.5, 0.999])
def test_truncated(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        read_safetensors(path)


def test_cut_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    tensor = read_safetensors(path)["a"]
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(CheckpointError, match="ends 400 bytes early"):
        tensor.read(None)


def test_longer_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match=r"has \d+ bytes, its header promises \d+"):
        read_safetensors(path)


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(shape=[3])}, r"a claims bytes 0 to 8, expected 12 from 0"),
        ({"a": entry(data_offsets=[4, 12])}, "a claims bytes 4 to 12"),
        ({"a": entry(), "b": entry()}, "b claims bytes 0 to 8, expected 8 from 8"),
        ({"a": entry(dtype="F12")}, "not safetensors: KeyError"),
        ({"a": {"dtype": "F32"}}, "not safetensors"),
        ({"a": 5}, "not safetensors"),
        ([1], "not safetensors"),
        ("{", "not safetensors"),
        ({"a": entry(shape=[-1, -2])}, "a claims|not safetensors"),
        ({"a": entry(shape="x")}, "not safetensors"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: Any, message: str) -> None:
    encoded = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(8))
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "a folder"])
def test_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    with pytest.raises(CheckpointError, match="a: "):
        read_safetensors(tmp_path / "a")
