"""Keys and values of one sequence: everything for global layers, at most one chunk for chunked layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.model.config import TextConfig

__all__ = ["ChunkedLayerCache", "GlobalLayerCache", "KVCache", "LayerCache", "SequenceCache"]


@runtime_checkable
class LayerCache(Protocol):
    """One layer's keys and values of one sequence."""

    def append(
        self, k: Float[Tensor, "new kv_heads head_dim"], v: Float[Tensor, "new kv_heads head_dim"]
    ) -> tuple[Float[Tensor, "known kv_heads head_dim"], Float[Tensor, "known kv_heads head_dim"]]:
        """Stores the new ones; returns all that they may attend to, the new ones last."""


@runtime_checkable
class SequenceCache(Protocol):
    """What a model reads and extends. `length` counts the tokens seen."""

    length: int

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One for each layer."""


class GlobalLayerCache:
    """All keys and values so far, in buffers that double when they are full."""

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._length = 0

    def append(
        self, k: Float[Tensor, "new kv_heads head_dim"], v: Float[Tensor, "new kv_heads head_dim"]
    ) -> tuple[Float[Tensor, "known kv_heads head_dim"], Float[Tensor, "known kv_heads head_dim"]]:
        """Stores the new ones; returns all known, the new ones last."""
        end = self._length + k.shape[0]
        self._keys = _reserve(self._keys, k, self._length, end)
        self._values = _reserve(self._values, v, self._length, end)
        self._keys[self._length : end] = k
        self._values[self._length : end] = v
        self._length = end
        return self._keys[:end], self._values[:end]

    @property
    def num_bytes(self) -> int:
        return sum(x.nbytes for x in (self._keys, self._values) if x is not None)


def _reserve(buffer: Tensor | None, like: Tensor, length: int, end: int, most: int | None = None) -> Tensor:
    """A buffer for `end` rows with the first `length` kept. It grows by doubling, never beyond `most`."""
    if buffer is not None and buffer.shape[0] >= end:
        return buffer
    num_rows = max(end, 2 * length, 64)
    grown = like.new_empty(num_rows if most is None else min(num_rows, most), *like.shape[1:])
    if buffer is not None:
        grown[:length] = buffer[:length]
    return grown


class ChunkedLayerCache:
    """The keys and values of the current chunk. Nothing older is ever read, so nothing older is kept."""

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._length = 0  # how much of the current chunk is filled, in 0 .. chunk_size

    def append(
        self, k: Float[Tensor, "new kv_heads head_dim"], v: Float[Tensor, "new kv_heads head_dim"]
    ) -> tuple[Float[Tensor, "known kv_heads head_dim"], Float[Tensor, "known kv_heads head_dim"]]:
        """Returns the current chunk's known keys and values followed by the new ones, which may run on into
        further chunks; keeps only what the next token may still see."""
        if self._length == self._chunk_size:
            self._length = 0
        end = self._length + k.shape[0]
        filled = min(end, self._chunk_size)
        self._keys = _reserve(self._keys, k, self._length, filled, self._chunk_size)
        self._values = _reserve(self._values, v, self._length, filled, self._chunk_size)
        if end <= self._chunk_size:
            self._keys[self._length : end] = k
            self._values[self._length : end] = v
            self._length = end
            return self._keys[:end], self._values[:end]
        all_keys = torch.cat([self._keys[: self._length], k])
        all_values = torch.cat([self._values[: self._length], v])
        self._length = (end - 1) % self._chunk_size + 1
        self._keys[: self._length] = all_keys[-self._length :]
        self._values[: self._length] = all_values[-self._length :]
        return all_keys, all_values

    @property
    def num_bytes(self) -> int:
        return sum(x.nbytes for x in (self._keys, self._values) if x is not None)


class KVCache:
    """One sequence's cache, layer by layer. `length` counts the tokens seen."""

    def __init__(self, config: TextConfig) -> None:
        self.layers: list[GlobalLayerCache | ChunkedLayerCache] = [
            ChunkedLayerCache(config.attention_chunk_size) if kind == "chunked" else GlobalLayerCache()
            for kind in config.layer_types
        ]
        self.length = 0

    @property
    def num_bytes(self) -> int:
        """Bytes held by all layers' buffers."""
        return sum(layer.num_bytes for layer in self.layers)
