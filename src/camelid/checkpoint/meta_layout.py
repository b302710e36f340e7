"""Models on disk as Meta released them: params.json and consolidated.0N.pth, one file per model-parallel rank.

Files are pickles and are read weights-only: no code in them runs. Quantised releases keep the scales of routed
experts in `fp8_scales_N.pt` or `int4_scales_N.pt`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from camelid.checkpoint.hf_config import read_json
from camelid.checkpoint.lazy_tensor import LazyTensor
from camelid.checkpoint.meta_params import PARAMS, config_from_params
from camelid.checkpoint.meta_table import (
    ALSO_CALLED,
    EXPERT_KEYS,
    Part,
    local_shape,
    meta_table,
    parameter_shapes,
)
from camelid.checkpoint.stored_model import NUM_RELEASED_SPECIALS, StoredModel
from camelid.core.errors import CheckpointError
from camelid.model import Llama4Config

__all__ = ["is_meta_dir", "open_meta"]

SHARDS = "consolidated.*.pth"
INT4_GROUP = 128  # inputs that share one scale


def is_meta_dir(directory: Path) -> bool:
    """Whether the folder holds a model in this layout."""
    return (directory / PARAMS).is_file() and any(directory.glob(SHARDS))


def open_meta(directory: Path) -> StoredModel:
    """Maps all ranks' files and reads none of their tensors yet; CheckpointError says what is wrong where."""
    params = read_json(directory / PARAMS)
    paths = sorted(directory.glob(SHARDS))
    if not paths:
        raise CheckpointError(f"{directory} has {PARAMS} but no {SHARDS}")
    expected = [f"consolidated.{rank:02d}.pth" for rank in range(len(paths))]
    if [path.name for path in paths] != expected:
        raise CheckpointError(
            f"{directory}: ranks are missing: {[path.name for path in paths]}, expected {expected}"
        )
    files = [_load(path) for path in paths]
    scales = [_scales(directory, rank) for rank in range(len(paths))]
    config = _config(params, files[0], len(paths), paths[0])
    halves: dict[str, LazyTensor] = {}
    tensors: dict[str, LazyTensor] = {}
    shapes = parameter_shapes(config)
    for key, parts in meta_table(config).items():
        stored = [
            _Stored(path, _named(file, key, path), of)
            for path, file, of in zip(
                paths, files, (group.get(_scale_key(key)) for group in scales), strict=True
            )
        ]
        rows = [local_shape(part, shapes[part.name], len(paths)) for part in parts]
        for shard in stored:
            shard.check(key, (sum(shape[0] for shape in rows), *rows[0][1:]))
        first = 0
        for part, shape in zip(parts, rows, strict=True):
            joined = _joined(stored, key, part, shapes[part.name], (first, first + shape[0]))
            first += shape[0]
            if part.half is None:
                tensors[part.name] = joined
            elif part.half == 0:
                halves[part.name] = joined
            else:
                tensors[part.name] = _side_by_side(halves[part.name], joined)
    specials = min(NUM_RELEASED_SPECIALS, config.text.vocab_size // 2)
    return StoredModel(config, tensors, specials, str(directory))


def _load(path: Path) -> dict[str, Tensor]:
    """A rank's tensors, mapped. What else lies in the file (`_extra_state`) is left out."""
    try:
        with safe_globals([io.BytesIO]):
            values = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(
            f"{path} holds more than weights, and code in it is never run: {reason}"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) is cut short or no checkpoint: {error}"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, expected a dict of tensors")
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _scales(directory: Path, rank: int) -> dict[str, Tensor]:
    for name in (f"fp8_scales_{rank}.pt", f"int4_scales_{rank}.pt"):
        if (directory / name).is_file():
            return _load(directory / name)
    return {}


def _scale_key(key: str) -> str:
    """The name of an expert tensor's scales, which follow Meta's module names."""
    stem, _, last = key.rpartition(".")
    return f"{stem}.{EXPERT_KEYS.get(last, last)}"


def _named(file: Mapping[str, Tensor], key: str, path: Path) -> Tensor:
    for ours, theirs in ALSO_CALLED.items():
        if key not in file and key.endswith(ours):
            key = key.removesuffix(ours) + theirs
    if key not in file:
        raise CheckpointError(f"{path} lacks {key}")
    return file[key]


def _config(params: Mapping[str, Any], file: Mapping[str, Tensor], ranks: int, path: Path) -> Llama4Config:
    def width(suffix: str, dim: int) -> int:
        return next((ranks * tensor.shape[dim] for name, tensor in file.items() if name.endswith(suffix)), 0)

    expert, dense = width("w_out_shared_DF.weight", 1), width("mlp.fc2_weight", 1)
    vocab_size = width("tok_embeddings.weight", 0)
    if not vocab_size or not (expert or dense):
        raise CheckpointError(f"{path} has no token embeddings or no feed-forward layers under Meta's names")
    return config_from_params(params, vocab_size, expert or dense, dense)


@dataclass(frozen=True)
class _Stored:
    """One rank's tensor, perhaps with the scales that its few bits need."""

    path: Path
    tensor: Tensor
    scale: Tensor | None

    @property
    def is_int4(self) -> bool:
        """Meta keeps two values in a byte that calls itself float8; its scales have groups, FP8's have none."""
        return self.scale is not None and self.scale.ndim == 3

    def check(self, key: str, expected: tuple[int, ...]) -> None:
        if self.is_int4:
            expected = (expected[0] // 2, *expected[1:])
        if tuple(self.tensor.shape) != expected:
            raise CheckpointError(
                f"{self.path}: {key} has shape {tuple(self.tensor.shape)}, expected {expected}"
            )
        if self.scale is None and self.tensor.dtype in (torch.float8_e4m3fn, torch.int8):
            raise CheckpointError(f"{self.path}: {key} is {self.tensor.dtype} and has no scales beside it")

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype if self.scale is None else torch.bfloat16

    def experts(self, count: int, row: int | None) -> Tensor:
        """[experts, in, out], or one expert's [in, out], of whatever width."""
        values = self.tensor.view(count, -1, self.tensor.shape[-1])
        chosen = values if row is None else values[row]
        if self.scale is None:
            return chosen
        scale = self.scale if row is None else self.scale[row]
        if not self.is_int4:
            return (chosen.float() * scale.float().unsqueeze(-2)).bfloat16()
        byte = chosen.view(torch.int8)
        # The arithmetic shift brings the sign along; even inputs lie in the low half.
        pairs = torch.stack([(byte << 4) >> 4, byte >> 4], dim=-2).flatten(-3, -2)
        return (pairs.float() * scale.float().repeat_interleave(INT4_GROUP, -2)).bfloat16()


def _joined(
    stored: list[_Stored], key: str, part: Part, shape: tuple[int, ...], rows: tuple[int, int]
) -> LazyTensor:
    """A tensor of ours (or half of it) from all ranks."""
    is_expert = len(shape) == 3
    if part.half is not None:
        shape = (*shape[:-1], shape[-1] // 2)
    used = stored if part.dim is not None else stored[:1]

    def read(row: int | None) -> Tensor:
        if is_expert:
            assert part.dim is not None
            return torch.cat([shard.experts(shape[0], row) for shard in used], part.dim)
        locals_ = [shard.tensor[slice(*rows)] for shard in used]
        whole = torch.cat([value.T if part.transposed else value for value in locals_], part.dim or 0)
        return whole if row is None else whole[row]

    return LazyTensor(shape, stored[0].dtype, read, f"{stored[0].path}: {key}")


def _side_by_side(gate: LazyTensor, up: LazyTensor) -> LazyTensor:
    shape = (*gate.shape[:-1], gate.shape[-1] + up.shape[-1])
    return LazyTensor(
        shape, gate.dtype, lambda row: torch.cat([gate.read(row), up.read(row)], -1), gate.source
    )
