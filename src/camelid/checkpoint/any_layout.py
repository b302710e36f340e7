"""A model's folder, whichever layout it has, an adapter's, or a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from camelid.checkpoint.hf_layout import is_hf_dir, open_hf, verify_digests, write_hf
from camelid.checkpoint.meta_layout import is_meta_dir, open_meta
from camelid.checkpoint.peft_layout import base_of, is_adapter_dir, merge_adapter
from camelid.checkpoint.stored_model import StoredModel, stored
from camelid.core.errors import CheckpointError
from camelid.core.files import write_bytes_atomically
from camelid.model import Llama4

__all__ = [
    "gguf_layout",
    "is_gguf",
    "is_model_dir",
    "load_model",
    "open_model",
    "save_dense_model",
    "save_model",
]

WHOLE = 1 << 62  # bytes: no model of ours is cut into shards


def is_gguf(path: Path) -> bool:
    """Whether the path is that of a GGUF file."""
    return path.suffix.lower() == ".gguf" and path.is_file()


def gguf_layout() -> Any:
    """The module that reads GGUF files; CheckpointError without the package that it needs."""
    try:
        return import_module("camelid.checkpoint.gguf_layout")
    except ModuleNotFoundError as error:
        raise CheckpointError("GGUF files need an extra package: pip install 'camelid[gguf]'") from error


def is_model_dir(directory: Path) -> bool:
    """Whether the folder holds a model that we can read, or an adapter."""
    return is_hf_dir(directory) or is_meta_dir(directory) or is_adapter_dir(directory)


def open_model(path: Path) -> StoredModel:
    """Reads headers only. CheckpointError says which file and which tensor is not what it should be."""
    if is_gguf(path):
        model: StoredModel = gguf_layout().open_gguf(path)
    elif is_adapter_dir(path):
        model = merge_adapter(open_model(base_of(path)), path)
    else:
        model = open_meta(path) if is_meta_dir(path) else open_hf(path)
    return model.checked()


def load_model(
    directory: Path, dtype: torch.dtype = torch.float32, *, absolute_positions: bool = False
) -> Llama4:
    """A model with its weights, in evaluation mode.

    CheckpointError as `open_model`, and for weights that are not those of the folder's SHA256SUMS.
    """
    model = open_model(directory)
    verify_digests(directory)
    return model.load(dtype, absolute_positions=absolute_positions)


def save_model(
    model: Llama4, directory: Path, dtype: torch.dtype = torch.bfloat16, num_special_tokens: int | None = None
) -> None:
    """Writes one file that transformers loads, beside its config. Refuses a model whose routing needs a bias."""
    write_hf(stored(model, num_special_tokens).to(dtype), directory, max_shard_bytes=WHOLE)


def save_dense_model(
    model: Llama4,
    directory: Path,
    dtype: torch.dtype = torch.bfloat16,
    text_files: Mapping[str, str | bytes] | None = None,
) -> None:
    """Writes an all-dense, all-RoPE member as `LlamaForCausalLM`, with the tokenizer's files beside it."""
    write_hf(stored(model).to(dtype), directory, max_shard_bytes=WHOLE, dense=True)
    for name, content in (text_files or {}).items():
        data = content.encode() if isinstance(content, str) else content
        write_bytes_atomically(directory / name, data)
