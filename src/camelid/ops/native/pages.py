"""Keys and values in pages, as native attention reads them, written and read by torch alone as well."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor

from camelid.ops.native.memory import empty_in_huge_pages
from camelid.ops.native.panels import LANES

__all__ = ["PAGE_SIZE", "LayerPages", "bytes_per_position"]

PAGE_SIZE = 64  # positions of a page; kPageSize in kernels.h


@dataclass(frozen=True)
class LayerPages:
    """One layer's pages. In int8 every head of every position has scales of its own, of its key and of its value.

    Keys are panels of sixteen positions, values panels of sixteen features whose inputs are positions.
    """

    keys: Shaped[Tensor, "pages kv_heads _panels _pairs 16 2"]
    values: Shaped[Tensor, "pages kv_heads _panels _pairs 16 2"]
    key_scales: Float32[Tensor, "pages kv_heads 64"] | None = None
    value_scales: Float32[Tensor, "pages kv_heads 64"] | None = None

    @classmethod
    def empty(cls, num_pages: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> LayerPages:
        """`dtype`: int8, or what keys and values are computed in."""
        assert head_dim % LANES == 0, head_dim
        front = num_pages, kv_heads
        keys = empty_in_huge_pages((*front, PAGE_SIZE // LANES, head_dim // 2, LANES, 2), dtype)
        values = empty_in_huge_pages((*front, head_dim // LANES, PAGE_SIZE // 2, LANES, 2), dtype)
        if dtype != torch.int8:
            return cls(keys, values)
        return cls(keys, values, torch.empty(*front, PAGE_SIZE), torch.empty(*front, PAGE_SIZE))

    def write(
        self,
        pages: Int[Tensor, "new"],
        slots: Int[Tensor, "new"],
        k: Float[Tensor, "new kv_heads head_dim"],
        v: Float[Tensor, "new kv_heads head_dim"],
    ) -> None:
        """Each position into its slot of its page."""
        k, v = (
            _in_steps(x, scales, pages, slots) for x, scales in ((k, self.key_scales), (v, self.value_scales))
        )
        self.keys[pages, :, slots // LANES, :, slots % LANES] = k.to(self.keys.dtype).unflatten(2, (-1, 2))
        self.values[pages, :, :, slots // 2, :, slots % 2] = v.to(self.keys.dtype).unflatten(2, (-1, LANES))

    def read(
        self, pages: Int[Tensor, "some"], count: int, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "count kv_heads head_dim"], Float[Tensor, "count kv_heads head_dim"]]:
        """Keys and values of the first `count` positions."""
        # Pages, kv_heads, position / 16, feature / 2, position % 16, feature % 2.
        keys = self.keys[pages].permute(0, 2, 4, 1, 3, 5)
        # Pages, kv_heads, feature / 16, position / 2, feature % 16, position % 2.
        values = self.values[pages].permute(0, 3, 5, 1, 2, 4)
        read = []
        for x, scales in ((keys, self.key_scales), (values, self.value_scales)):
            flat = x.flatten(0, 2).flatten(2, 3)[:count]
            if scales is not None:
                flat = flat * scales[pages].transpose(1, 2).flatten(0, 1)[:count, :, None]
            read.append(flat.to(dtype))
        return read[0], read[1]


def _in_steps(x: Tensor, scales: Tensor | None, pages: Tensor, slots: Tensor) -> Tensor:
    """In 127 steps to each side, whose size goes into `scales`; itself without."""
    if scales is None:
        return x
    x = x.float()
    largest = x.abs().amax(-1, keepdim=True)
    scales[pages, :, slots] = (largest / 127).squeeze(-1)
    return (x * torch.where(largest == 0, 0.0, 127 / largest)).round()


def bytes_per_position(kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """Of one layer's keys and values."""
    scale_bytes = torch.float32.itemsize if dtype == torch.int8 else 0
    return 2 * kv_heads * (head_dim * dtype.itemsize + scale_bytes)
