"""Resumable training state on disk: all there, checked by digest, or not there at all.

step-N/  model.safetensors  optim.safetensors  rng.safetensors  loader.json  + model files  COMPLETE

The folder is written under a temporary name and renamed when COMPLETE, which lists every file's sha256 and size,
is in it. The model files make the folder loadable as a model as well.
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

from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from camelid.core.digest import sha256_of_bytes, sha256_of_file
from camelid.core.errors import CheckpointError
from camelid.core.files import sync_directory
from camelid.core.run_dir import COMPLETE

__all__ = [
    "SELECTION_BIAS",
    "TrainState",
    "load_train_state",
    "refuse_selection_bias",
    "remove_train_state",
    "save_train_state",
]

SELECTION_BIAS = (
    "|selection_bias"  # ends the names under which routers' biases lie with the optimizer's state
)

HEADROOM = 1.02  # for headers and the small files
MODEL, OPTIMIZER, RNG, LOADER = "model.safetensors", "optim.safetensors", "rng.safetensors", "loader.json"


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on bit for bit."""

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    loader: Mapping[str, Any]


def save_train_state(directory: Path, state: TrainState, model_files: Mapping[str, str | bytes]) -> None:
    """Writes `directory`, which must not be a complete checkpoint yet.

    CheckpointError with the bytes needed and free when the disk is full; then other checkpoints are untouched and
    nothing of this one is left. A run has one writer: what an earlier one left half written or half removed goes.
    """
    assert not (directory / COMPLETE).exists(), f"{directory} is complete: nothing is changed afterwards"
    directory.parent.mkdir(parents=True, exist_ok=True)
    for half in (directory, *directory.parent.glob(".step-*.tmp")):
        shutil.rmtree(half, ignore_errors=True)
    needed = sum(tensor.nbytes for group in (state.model, state.optimizer) for tensor in group.values())
    free = shutil.disk_usage(directory.parent).free
    if free < needed * HEADROOM:
        raise CheckpointError(f"{directory}: needs {needed:,} bytes, the disk has {free:,} free")
    temporary = _temporary(directory)
    temporary.mkdir()
    try:
        digests: dict[str, str] = {}
        sizes: dict[str, int] = {}

        def write(name: str, data: bytes) -> None:
            digests[name], sizes[name] = sha256_of_bytes(data), len(data)
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
        marker = {"schema": "checkpoint/1", "sha256": digests, "bytes": sizes}
        write(COMPLETE, json.dumps(marker, indent=2).encode())
        sync_directory(temporary)
        temporary.rename(directory)
        sync_directory(directory.parent)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CheckpointError(
            f"{directory}: the disk is full: {needed:,} bytes needed, {free:,} were free"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_train_state(directory: Path) -> None:
    """Removes a checkpoint. A kill on the way leaves nothing that looks like one; the next save sweeps the rest."""
    temporary = _temporary(directory)
    directory.rename(temporary)
    shutil.rmtree(temporary)


def _temporary(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.tmp")


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    data: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return data


def load_train_state(directory: Path) -> TrainState:
    """Reads what `save_train_state` wrote; CheckpointError names any file that is missing or was changed."""
    marker = _read_marker(directory / COMPLETE)
    for name in marker["sha256"].keys() | {MODEL, OPTIMIZER, RNG, LOADER}:
        path = directory / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        size, expected_size = path.stat().st_size, marker["bytes"].get(name)
        if expected_size is not None and size != expected_size:
            raise CheckpointError(f"{path} has {size:,} bytes, expected {expected_size:,}")
        digest, expected_digest = sha256_of_file(path), marker["sha256"].get(name)
        if digest != expected_digest:
            raise CheckpointError(
                f"{path} ({size:,} bytes) was changed: sha256 {digest}, expected {expected_digest}"
            )
    tensors = {name: load((directory / name).read_bytes()) for name in (MODEL, OPTIMIZER, RNG)}
    loader = json.loads((directory / LOADER).read_text(encoding="utf-8"))
    return TrainState(tensors[MODEL], tensors[OPTIMIZER], tensors[RNG], loader)


def refuse_selection_bias(directory: Path) -> None:
    """CheckpointError if the checkpoint's routers choose by a bias: its model files, which have no place for one, are
    then another model. Any other folder passes.
    """
    path = directory / OPTIMIZER
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as file:
        largest = {
            name.removesuffix(SELECTION_BIAS): float(file.get_tensor(name).abs().max())
            for name in file.keys()  # noqa: SIM118 (a file of safetensors is no mapping)
            if name.endswith(SELECTION_BIAS)
        }
    if left := {layer: size for layer, size in largest.items() if size > 0}:
        raise CheckpointError(
            f"{directory}: the routers of {len(left)} layers choose by a bias (up to {max(left.values()):.3g}), and "
            "the format has no place for it; the last part of the run lets it go"
        )


def _read_marker(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} is not a complete checkpoint: it has no {COMPLETE}")
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        return {"sha256": dict(marker["sha256"]), "bytes": dict(marker.get("bytes", {}))}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} ({size:,} bytes) does not list the checkpoint's files: {error}"
        ) from error
