"""One safetensors file, read and written a tensor at a time.

The format (Hugging Face, safetensors): the header's length as 8 bytes little endian, a JSON header, the bytes.
The library maps or holds whole files; here nothing larger than one tensor is ever held, and every refusal says
which file and which tensor. Tests read our files with the library and the library's files with this.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from camelid.checkpoint.lazy_tensor import LazyTensor, WeightMap, bytes_of, read_ahead
from camelid.core.errors import CheckpointError
from camelid.core.files import begin_writeback

__all__ = ["read_safetensors", "write_safetensors"]

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER_BYTES = 100_000_000  # the library's own limit
ALIGNMENT = 8
PIECE_BYTES = 1 << 24


def read_safetensors(path: Path) -> dict[str, LazyTensor]:
    """The tensors of a file in the order of their bytes. Only the header is read.

    Raises CheckpointError for a file that is missing, truncated, longer than it says, or whose header is none.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or header_bytes > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(
                    f"{path}: {size:,} bytes cannot hold a header of {header_bytes:,}: not safetensors, or cut short"
                )
            header: dict[str, Any] = json.loads(file.read(header_bytes))
        header.pop("__metadata__", None)
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        start, tensors = 0, {}
        for name, entry in entries:
            begin, end = entry["data_offsets"]
            dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            if (
                min(shape, default=0) < 0
                or begin != start
                or end - begin != math.prod(shape) * dtype.itemsize
            ):
                raise CheckpointError(
                    f"{path}: {name} claims bytes {begin:,} to {end:,}, expected "
                    f"{math.prod(shape) * dtype.itemsize:,} from {start:,} on for {entry['dtype']} {list(shape)}"
                )
            start = end
            place = path, 8 + header_bytes + begin, shape, dtype
            tensors[name] = LazyTensor(
                shape, dtype, _reader(*place), f"{path}: {name}", partial(_map, *place)
            )
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: the header is not safetensors: {error!r}") from error
    expected = 8 + header_bytes + start
    if size != expected:
        raise CheckpointError(f"{path} has {size:,} bytes, its header promises {expected:,}")
    return tensors


def _reader(
    path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype
) -> Callable[[int | None], Tensor]:
    def read(row: int | None) -> Tensor:
        wanted = shape if row is None else shape[1:]
        tensor = torch.empty(wanted, dtype=dtype)
        if not tensor.numel():
            return tensor
        buffer = bytes_of(tensor)
        position = offset + (0 if row is None else row * tensor.nbytes)
        try:
            with path.open("rb", buffering=0) as file:
                done = 0
                while done < len(buffer):
                    count = os.preadv(file.fileno(), [buffer[done:]], position + done)
                    if not count:
                        raise CheckpointError(f"{path} ends {len(buffer) - done:,} bytes early")
                    done += count
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror or error}") from error
        return tensor

    return read


def _map(path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    num_bytes = math.prod(shape) * dtype.itemsize
    if not num_bytes:
        return torch.empty(shape, dtype=dtype)
    # Copy on write: whoever changes such a tensor changes memory, never the file.
    view = np.memmap(path, np.uint8, "c", offset, (num_bytes,))
    return torch.from_numpy(view).view(dtype).view(shape)


def write_safetensors(
    path: Path,
    tensors: WeightMap,
    metadata: Mapping[str, str],
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """Writes a file tensor by tensor and returns its sha256. `progress` hears of every piece's bytes.

    `path` must be a temporary name: what an error leaves there is half a file.
    """
    # Wider dtypes first, as the library has it, so that every tensor is aligned to its own width.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in names:
        tensor = tensors[name]
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % ALIGNMENT)
    digest = hashlib.sha256()
    reads = [read for name in names for read in tensors[name].pieces()]
    # Reading, hashing and writing take about as long as each other: each has its thread.
    with path.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:

        def write(data: bytes | memoryview) -> None:
            hashed = hasher.submit(digest.update, data)
            done = 0
            while done < len(data):
                done += file.write(data[done:])
            hashed.result()
            begin_writeback(file.fileno())
            progress(len(data))

        write(len(encoded).to_bytes(8, "little") + encoded)
        for value in read_ahead(reads):
            if value.numel():
                data = bytes_of(value)
                for start in range(0, len(data), PIECE_BYTES):
                    write(data[start : start + PIECE_BYTES])
                del data
            del value
        os.fsync(file.fileno())
    size = path.stat().st_size
    assert size == offset + 8 + len(encoded), f"{path} has {size} bytes: a tensor is not what it said"
    return digest.hexdigest()
