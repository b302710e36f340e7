"""Resumable training state on disk: all there, checked by digest, or not there at all.

    step-N/  model.safetensors  optim.safetensors  rng.safetensors  loader.json  + model files  COMPLETE

The folder is written under a temporary name and renamed when COMPLETE, which lists every file's sha256, is in
it. The model files make the folder loadable as a model as well.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from camelid.core.digest import sha256_of_bytes, sha256_of_file
from camelid.core.errors import CheckpointError
from camelid.core.files import sync_directory
from camelid.core.run_dir import COMPLETE

__all__ = ["TrainState", "load_train_state", "save_train_state"]

MODEL, OPTIMIZER, RNG, LOADER = "model.safetensors", "optim.safetensors", "rng.safetensors", "loader.json"


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on bit for bit."""

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    loader: Mapping[str, Any]


def save_train_state(directory: Path, state: TrainState, model_files: Mapping[str, str | bytes]) -> None:
    """Writes `directory`, which must not exist. CheckpointError when the disk is full; then nothing is left."""
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    needed = sum(tensor.nbytes for group in (state.model, state.optimizer) for tensor in group.values())
    directory.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory.parent).free
    if free < needed * 1.02:
        raise CheckpointError(f"{directory}: needs {needed:,} bytes, the disk has {free:,} free")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        digests: dict[str, str] = {}

        def write(name: str, data: bytes) -> None:
            digests[name] = sha256_of_bytes(data)
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        write(MODEL, _pack(state.model))
        write(OPTIMIZER, _pack(state.optimizer))
        write(RNG, _pack(state.rng))
        write(LOADER, json.dumps(state.loader, indent=2).encode())
        for name, content in model_files.items():
            write(name, content.encode() if isinstance(content, str) else content)
        write(COMPLETE, json.dumps({"schema": "checkpoint/1", "sha256": dict(digests)}, indent=2).encode())
        sync_directory(temporary)
        temporary.rename(directory)
        sync_directory(directory.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(directory.parent).free
            raise CheckpointError(f"{directory}: the disk is full ({needed:,} bytes needed, {free:,} free)") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    data: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return data


def load_train_state(directory: Path) -> TrainState:
    """Reads what `save_train_state` wrote; CheckpointError names any file that is missing or was changed."""
    marker = directory / COMPLETE
    if not marker.is_file():
        raise CheckpointError(f"{directory} is not a complete checkpoint: it has no {COMPLETE}")
    for name, digest in json.loads(marker.read_text(encoding="utf-8"))["sha256"].items():
        path = directory / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        found = sha256_of_file(path)
        if found != digest:
            raise CheckpointError(
                f"{path} ({path.stat().st_size:,} bytes) was changed: sha256 {found}, expected {digest}"
            )
    tensors = {name: load((directory / name).read_bytes()) for name in (MODEL, OPTIMIZER, RNG)}
    loader = json.loads((directory / LOADER).read_text(encoding="utf-8"))
    return TrainState(tensors[MODEL], tensors[OPTIMIZER], tensors[RNG], loader)
