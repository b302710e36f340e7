"""A model's folder, whichever layout it has."""

from __future__ import annotations

from pathlib import Path

import torch

from camelid.checkpoint.hf_layout import is_hf_dir, open_hf, verify_digests, write_hf
from camelid.checkpoint.meta_layout import is_meta_dir, open_meta
from camelid.checkpoint.stored_model import StoredModel, stored
from camelid.model import Llama4

__all__ = ["is_model_dir", "load_model", "open_model", "save_model"]

WHOLE = 1 << 62  # bytes: no model of ours is cut into shards


def is_model_dir(directory: Path) -> bool:
    """Whether the folder holds a model that we can read."""
    return is_hf_dir(directory) or is_meta_dir(directory)


def open_model(directory: Path) -> StoredModel:
    """Reads headers only. CheckpointError says which file and which tensor is not what it should be."""
    return (open_meta(directory) if is_meta_dir(directory) else open_hf(directory)).checked()


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
