"""A checkpoint of Scout's real shape, but of few layers and words, on disk: 4.4 GB a layer of made-up weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from camelid.checkpoint import StoredModel, write_hf
from camelid.checkpoint.lazy_tensor import LazyTensor
from camelid.checkpoint.stored_model import NUM_RELEASED_SPECIALS
from camelid.model import Llama4, Llama4Config, preset

__all__ = ["real_shape_config", "write_real_shape"]

VOCAB_SIZE = 8192
BLOCK = 1 << 24


def real_shape_config(num_layers: int) -> Llama4Config:
    """Scout without its vision encoder, its first layers and a small vocabulary."""
    text = preset("scout").text
    kept = range(num_layers)
    return Llama4Config(
        text.replace(
            vocab_size=VOCAB_SIZE,
            layer_types=text.layer_types[:num_layers],
            moe_layers=tuple(layer for layer in text.moe_layers if layer in kept),
        )
    )


def write_real_shape(directory: Path, num_layers: int) -> StoredModel:
    """Writes it in bf16 shards of 5 GB. One block of random numbers fills every tensor, again and again."""
    config = real_shape_config(num_layers)
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Llama4(config).state_dict().items()}

    def lazy(name: str, shape: tuple[int, ...]) -> LazyTensor:
        def read(row: int | None) -> Tensor:
            tensor = torch.empty(shape if row is None else shape[1:], dtype=torch.bfloat16)
            flat = tensor.view(-1)
            if "norm" in name:
                return tensor.fill_(1)
            for start in range(0, len(flat), BLOCK):
                flat[start : start + BLOCK] = block[: len(flat) - start]
            return tensor

        return LazyTensor(shape, torch.bfloat16, read, name)

    model = StoredModel(
        config, {name: lazy(name, shape) for name, shape in shapes.items()}, NUM_RELEASED_SPECIALS
    )
    write_hf(model, directory)
    (directory / "SHA256SUMS").unlink()  # as the Hub's folders have none: nothing is read twice
    return model
