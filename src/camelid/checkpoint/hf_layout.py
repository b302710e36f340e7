"""Models on disk as Hugging Face has them: config.json, one or many safetensors files, an index over many.

Our parameter names are Hugging Face's; a text-only model drops the `language_model.` prefix, as
`Llama4ForCausalLM` does. What we write also has SHA256SUMS (`sha256sum -c` reads it), and what has that file is
checked before it is believed.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from camelid.checkpoint.dense_layout import (
    dense_files,
    dense_tensors_from_hf,
    dense_tensors_to_hf,
    is_dense_hf,
)
from camelid.checkpoint.hf_config import CONFIG, load_config, model_files, read_json
from camelid.checkpoint.lazy_tensor import LazyTensor, WeightMap
from camelid.checkpoint.packed_writer import packed_tensors, quantization_config
from camelid.checkpoint.quantized_layouts import dequantized, fused_experts
from camelid.checkpoint.safetensors_file import read_safetensors, write_safetensors
from camelid.checkpoint.stored_model import NUM_RELEASED_SPECIALS, StoredModel
from camelid.core.digest import sha256_of_file, sha256_of_text
from camelid.core.errors import CheckpointError
from camelid.core.files import sync_directory, write_text_atomically
from camelid.ops.quantization import Bits

__all__ = [
    "digested_bytes",
    "is_hf_dir",
    "open_hf",
    "stored_hf",
    "verify_digests",
    "weights_digest",
    "write_hf",
]

WEIGHTS, INDEX, DIGESTS = "model.safetensors", "model.safetensors.index.json", "SHA256SUMS"
PREFIX = "language_model."
NUM_BYTES = 256  # a vocabulary begins with all bytes: no special token can have a smaller id
MAX_SHARD_BYTES = 5_000_000_000
HEADROOM = 1.01  # for headers and the small files
Progress = Callable[[int], None]


def is_hf_dir(directory: Path) -> bool:
    """Whether the folder holds a model in this layout."""
    return (directory / CONFIG).is_file() and any((directory / name).is_file() for name in (WEIGHTS, INDEX))


def open_hf(directory: Path) -> StoredModel:
    """Reads the headers of a folder, quantised or not; CheckpointError says what is wrong with which file."""
    read_json(directory / CONFIG)  # first: what has no config is no model, whatever else it lacks
    return stored_hf(directory, _tensors(directory), str(directory))


def stored_hf(directory: Path, tensors: WeightMap, origin: str) -> StoredModel:
    """The model of a folder's config whose tensors, in Hugging Face's names and bits, are given."""
    config = load_config(directory)
    values = read_json(directory / CONFIG)
    values = values.get("text_config", {}) | values
    first_special = values.get("bos_token_id") or 0
    specials = config.text.vocab_size - first_special if first_special > NUM_BYTES else NUM_RELEASED_SPECIALS
    tensors = dequantized(tensors)
    if is_dense_hf(values):
        return StoredModel(config, dense_tensors_from_hf(tensors, config), origin=origin)
    plain = fused_experts(tensors)
    if config.vision is None:  # training checkpoints keep our own names
        plain = {PREFIX + name.removeprefix(PREFIX): tensor for name, tensor in plain.items()}
    return StoredModel(config, plain, specials, origin)


def weights_digest(model: StoredModel, directory: Path) -> str:
    """What names the weights: the digest of SHA256SUMS; without that file only of names, dtypes and shapes."""
    path = directory / DIGESTS
    if path.is_file():
        return f"{sha256_of_file(path)} (of {DIGESTS})"
    headers = [[name, str(tensor.dtype), tensor.shape] for name, tensor in sorted(model.tensors.items())]
    return f"{sha256_of_text(json.dumps(headers))} (of headers only: no {DIGESTS})"


def _tensors(directory: Path) -> dict[str, LazyTensor]:
    """Of all shards, which must hold exactly what the index says, where it says."""
    index_path = directory / INDEX
    if not index_path.is_file():
        return read_safetensors(directory / WEIGHTS)
    weight_map = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError(f"{index_path} lacks a weight_map from tensors to files")
    tensors: dict[str, LazyTensor] = {}
    for file in sorted(set(weight_map.values())):
        if Path(file).name != file:
            raise CheckpointError(f"{index_path}: {file} is not a file of this folder")
        promised = {name for name, where in weight_map.items() if where == file}
        found = read_safetensors(directory / file)
        if missing := promised - found.keys():
            raise CheckpointError(
                f"{directory / file} lacks {len(missing)} of {len(promised)} tensors that {INDEX} places there, "
                f"first {min(missing)}"
            )
        if extra := found.keys() - promised:
            raise CheckpointError(
                f"{directory / file} holds {len(extra)} tensors that {INDEX} does not place there, first {min(extra)}"
            )
        tensors |= found
    return tensors


def digested_bytes(directory: Path) -> int:
    """How many bytes `verify_digests` will read."""
    return sum(path.stat().st_size for path, _ in _listed_digests(directory))


def verify_digests(directory: Path, progress: Progress = lambda _: None) -> int:
    """Compares weights with SHA256SUMS, if there is one; returns how many files. CheckpointError names the changed."""
    listed = _listed_digests(directory)
    for path, expected in listed:
        found = sha256_of_file(path, progress)
        if found != expected:
            raise CheckpointError(f"{path} was changed: its sha256 is {found}, {DIGESTS} says {expected}")
    return len(listed)


def _listed_digests(directory: Path) -> list[tuple[Path, str]]:
    """The files of SHA256SUMS, all of which are there, and their digests; empty without one."""
    path = directory / DIGESTS
    if not path.is_file():
        return []
    listed = []
    for line in path.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        if len(expected) != 64 or not name or Path(name).name != name:
            raise CheckpointError(f"{path}: expected a sha256 and a file name, got {line[:80]!r}")
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory / name} is missing: {DIGESTS} lists it")
        listed.append((directory / name, expected))
    return listed


def write_hf(
    model: StoredModel,
    directory: Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress = lambda _: None,
    dense: bool = False,
    bits: Bits | None = None,
) -> None:
    """Writes a folder that transformers loads, tensor by tensor: no more than one is ever held.

    In fewer `bits` matrices are packed as compressed-tensors does it. `dense` makes it a `LlamaForCausalLM`;
    CheckpointError for a member that has more than that.

    The index and the digests come last, so that a folder without them is no model. A single file, which needs no
    index, takes its name last. CheckpointError where the disk is too small; then nothing half written is left.
    """
    model = model.checked()
    files = dense_files(model) if dense else model_files(model.config, model.num_special_tokens)
    prefix = "" if model.config.vision is not None else PREFIX
    named = (
        dense_tensors_to_hf(model.tensors, model.config)
        if dense
        else {name.removeprefix(prefix): tensor for name, tensor in model.tensors.items()}
    )
    if bits:
        named = packed_tensors(named, bits)
        config = json.loads(files[CONFIG]) | {"quantization_config": quantization_config(bits)}
        files = files | {CONFIG: json.dumps(config, indent=2) + "\n"}
    num_bytes = sum(tensor.nbytes for tensor in named.values())
    needed = int(num_bytes * HEADROOM)
    directory.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(directory).free) < needed:
        raise CheckpointError(f"{directory}: needs {needed:,} bytes, the disk has {free:,} free")
    shards = _shards(named, max_shard_bytes)
    digests: dict[str, str] = {}
    temporary = [directory / f".{name}.tmp" for name in shards]
    try:
        for path, (name, shard) in zip(temporary, shards.items(), strict=True):
            digests[name] = write_safetensors(path, shard, {"format": "pt"}, progress)
        for name, text in files.items():
            write_text_atomically(directory / name, text)
        for stale in (INDEX, WEIGHTS, DIGESTS):
            (directory / stale).unlink(missing_ok=True)
        for path, name in zip(temporary, shards, strict=True):
            path.replace(directory / name)
        if len(shards) > 1:
            weight_map = {name: file for file, shard in shards.items() for name in shard}
            index = {"metadata": {"total_size": num_bytes}, "weight_map": weight_map}
            write_text_atomically(directory / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
            digests[INDEX] = sha256_of_file(directory / INDEX)
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
        write_text_atomically(directory / DIGESTS, lines)
        sync_directory(directory)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CheckpointError(f"{directory}: the disk is full: {needed:,} bytes needed") from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _shards(tensors: WeightMap, max_shard_bytes: int) -> dict[str, dict[str, LazyTensor]]:
    """Tensors by file name, in the model's order, each file as full as it may be."""
    groups: list[dict[str, LazyTensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > max_shard_bytes:
            groups.append({})
            size = 0
        groups[-1][name] = tensor
        size += tensor.nbytes
    if len(groups) == 1:
        return {WEIGHTS: groups[0]}
    return {
        f"model-{number:05d}-of-{len(groups):05d}.safetensors": group
        for number, group in enumerate(groups, start=1)
    }
