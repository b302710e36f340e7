"""Models written as Meta has them: params.json and one consolidated file per model-parallel rank."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.serialization import skip_data

from camelid.checkpoint.lazy_tensor import bytes_of, read_ahead
from camelid.checkpoint.meta_params import PARAMS, params_from_config
from camelid.checkpoint.meta_table import Part, Table, local_shape, meta_table, parameter_shapes
from camelid.checkpoint.stored_model import StoredModel
from camelid.core.errors import CheckpointError
from camelid.core.files import begin_writeback, sync_directory, write_text_atomically

__all__ = ["meta_shard", "write_meta"]

HEADROOM = 1.01  # for headers and the small files


def meta_shard(model: StoredModel, ranks: int = 1, rank: int = 0) -> dict[str, Tensor]:
    """What one rank's file holds, in memory."""
    return {
        key: torch.cat([part.local(model.tensors[part.name].read(None), ranks, rank) for part in parts])
        for key, parts in meta_table(model.config).items()
    }


def write_meta(
    model: StoredModel, directory: Path, *, ranks: int = 1, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Writes a folder that Meta's reference loads at `ranks` model-parallel ranks.

    torch lays the files out empty, and they are filled in one pass over our tensors, of which two pieces at a time
    are held. params.json comes last, so that a folder without it is no model. ConfigError and CheckpointError say
    what Meta's format cannot hold, or the disk.
    """
    model = model.checked()
    params, entries = params_from_config(model.config), meta_table(model.config)
    shapes = parameter_shapes(model.config)
    local = {
        key: [local_shape(part, shapes[part.name], ranks) for part in parts] for key, parts in entries.items()
    }
    directory.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(directory).free) < (needed := int(model.nbytes * HEADROOM)):
        raise CheckpointError(f"{directory}: needs {needed:,} bytes, the disk has {free:,} free")
    names = [f"consolidated.{rank:02d}.pth" for rank in range(ranks)]
    temporary = [directory / f".{name}.tmp" for name in names]
    try:
        with FakeTensorMode():
            empty = {
                key: torch.empty(
                    sum(rows[0] for rows in local[key]),
                    *local[key][0][1:],
                    dtype=model.tensors[parts[0].name].dtype,
                )
                for key, parts in entries.items()
            }
        for path in temporary:
            with skip_data(materialize_fake_tensors=True):
                torch.save(empty, path)
        _fill(temporary, model, _places(entries, local), progress)
        for path, name in zip(temporary, names, strict=True):
            path.replace(directory / name)
        write_text_atomically(directory / PARAMS, json.dumps(params, indent=2) + "\n")
        sync_directory(directory)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


Places = dict[str, list[tuple[str, Part, int]]]


def _places(entries: Table, local: dict[str, list[tuple[int, ...]]]) -> Places:
    """Where each tensor of ours goes: Meta's key, which part of it, and from which row on."""
    places: Places = {}
    for key, parts in entries.items():
        first = 0
        for part, rows in zip(parts, local[key], strict=True):
            places.setdefault(part.name, []).append((key, part, first))
            first += rows[0]
    return places


def _fill(paths: list[Path], model: StoredModel, places: Places, progress: Callable[[int], None]) -> None:
    offsets = [_offsets(path) for path in paths]
    pieces = [
        (name, row, read)
        for name, tensor in model.tensors.items()
        for row, read in enumerate(tensor.pieces())
    ]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("r+b", buffering=0)).fileno() for path in paths]
        for (name, row, _), value in zip(pieces, read_ahead([read for *_, read in pieces]), strict=True):
            for key, part, first in places[name]:
                for rank, file in enumerate(files):
                    data = part.local(value, len(files), rank).contiguous()
                    # Experts come one by one, and lie one below the other.
                    start = (first + row * data.shape[0]) * data[0].nbytes
                    _write_at(file, bytes_of(data), offsets[rank][key] + start)
                    begin_writeback(file)
            progress(value.nbytes)
            del value, data  # before the next comes
        for file in files:
            os.fsync(file)


def _offsets(path: Path) -> dict[str, int]:
    """Where in a checkpoint of torch's the bytes of each tensor begin."""
    with FakeTensorMode():
        tensors = torch.load(path, weights_only=True)
    return {name: tensor.untyped_storage()._checkpoint_offset for name, tensor in tensors.items()}


def _write_at(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], offset + done)
