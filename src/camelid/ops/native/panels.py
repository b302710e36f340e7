"""Matrices in panels of sixteen outputs, as native kernels read them, and their products with any number of rows."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

from camelid.ops.native.library import best_path, native_library

__all__ = ["LANES", "PAGE_SIZE", "PackedMatrix", "PackedSwiglu", "Pages", "empty_pages", "to_panels"]

LANES = 16  # outputs of a panel
PAGE_SIZE = 64  # positions of a page of keys and values

Pages = Float[Tensor, "pages kv_heads _panels _pairs 16 2"]


def to_panels(*matrices: BFloat16[Tensor, "out in"]) -> BFloat16[Tensor, "panels pairs 16 2"]:
    """Panels of the matrices in turn, the last of each filled up with zeros."""
    height, width = matrices[0].shape
    assert width % 2 == 0, (height, width)
    panels = torch.empty(-(-height // LANES), len(matrices), width // 2, LANES, 2, dtype=torch.bfloat16)
    if library := native_library():
        library.camelid_advise(ctypes.c_void_p(panels.data_ptr()), ctypes.c_int64(panels.nbytes))
    whole = height // LANES * LANES
    for index, matrix in enumerate(matrices):
        pairs = matrix.unflatten(1, (-1, 2))
        panels[: whole // LANES, index] = pairs[:whole].unflatten(0, (-1, LANES)).transpose(1, 2)
        if whole < height:
            panels[-1, index].zero_()[:, : height - whole] = pairs[whole:].transpose(0, 1)
    return panels.flatten(0, 1)


class PackedMatrix:
    """A matrix [out, in] for native kernels. Twin of its call: `F.linear`."""

    def __init__(self, matrix: BFloat16[Tensor, "out in"]) -> None:
        self.height, self.panels = matrix.shape[0], to_panels(matrix)

    def __call__(
        self, x: BFloat16[Tensor, "rows in"], instructions: str | None = None
    ) -> BFloat16[Tensor, "rows out"]:
        """x times the transposed matrix, summed in fp32. `instructions`: of `native_paths()`, the best by default."""
        return _product("camelid_linear", self.panels, x, self.height, instructions)


class PackedSwiglu:
    """Gate and up of a feed-forward layer, [ffn, in] each, their panels in turn. Twin: `F.linear` and `swiglu`."""

    def __init__(self, gate: BFloat16[Tensor, "ffn in"], up: BFloat16[Tensor, "ffn in"]) -> None:
        self.height = gate.shape[0]
        self.panels = to_panels(gate, up)

    def __call__(
        self, x: BFloat16[Tensor, "rows in"], instructions: str | None = None
    ) -> BFloat16[Tensor, "rows ffn"]:
        """silu(gate x) · up x."""
        return _product("camelid_swiglu", self.panels, x, self.height, instructions)


def _product(name: str, panels: Tensor, x: Tensor, height: int, instructions: str | None) -> Tensor:
    library, width = native_library(), 2 * panels.shape[1]
    assert library is not None and x.dtype == torch.bfloat16 and x.shape[1] == width, (
        x.dtype,
        x.shape,
        width,
    )
    x = x.contiguous()
    out = x.new_empty(x.shape[0], height)
    getattr(library, name)(
        best_path(instructions),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (panels, x, out)),
        *(ctypes.c_int64(size) for size in (x.shape[0], width, height)),
        torch.get_num_threads(),
    )
    return out


def empty_pages(num_pages: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> tuple[Pages, Pages]:
    """Keys in panels of sixteen positions, and values in panels of sixteen features whose inputs are positions."""
    assert head_dim % LANES == 0, head_dim
    keys = torch.empty(num_pages, kv_heads, PAGE_SIZE // LANES, head_dim // 2, LANES, 2, dtype=dtype)
    values = torch.empty(num_pages, kv_heads, head_dim // LANES, PAGE_SIZE // 2, LANES, 2, dtype=dtype)
    return keys, values
