"""Matrices in panels of sixteen outputs, as native kernels read them, and their products with any number of rows."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Shaped, UInt8
from torch import Tensor

from camelid.ops.native.library import best_path, native_library
from camelid.ops.native.memory import empty_in_huge_pages
from camelid.ops.quantization import GROUP_SIZE, Bits, QuantizedMatrix

__all__ = [
    "FORMATS",
    "LANES",
    "MatrixStruct",
    "PackedMatrix",
    "PackedSwiglu",
    "integer_panels",
    "to_panels",
]

FORMATS: tuple[Bits | None, ...] = (None, 8, 4)  # bits of a weight, None for bf16; Format in kernels.h

LANES = 16  # outputs of a panel


class PackedMatrix:
    """A matrix [out, in] for native kernels. Twin of its call: `F.linear`, of `round_rows(x)` if it is quantised."""

    def __init__(self, matrix: BFloat16[Tensor, "out in"] | QuantizedMatrix) -> None:
        self._pack(matrix)

    def _pack(self, *matrices: BFloat16[Tensor, "out in"] | QuantizedMatrix) -> None:
        """Panels of the matrices in turn."""
        first = matrices[0]
        self.height, self.width = (first.values if isinstance(first, QuantizedMatrix) else first).shape
        self.format = FORMATS.index(first.bits if isinstance(first, QuantizedMatrix) else None)
        panels = [
            integer_panels(matrix) if isinstance(matrix, QuantizedMatrix) else to_panels(matrix)
            for matrix in matrices
        ]
        shape = len(matrices) * panels[0].shape[0], *panels[0].shape[1:]
        self.panels = empty_in_huge_pages(shape, panels[0].dtype)
        for index, part in enumerate(panels):
            self.panels[index :: len(matrices)] = part

    def __call__(
        self, x: BFloat16[Tensor, "rows in"], instructions: str | None = None
    ) -> BFloat16[Tensor, "rows out"]:
        """x times the transposed matrix, summed in fp32. `instructions`: of `native_paths()`, the best by default."""
        return self._product("camelid_linear", x, instructions)

    def _product(self, name: str, x: Tensor, instructions: str | None) -> Tensor:
        library = native_library()
        assert library is not None and x.dtype == torch.bfloat16 and x.shape[1] == self.width, (
            x.dtype,
            x.shape,
            self.width,
        )
        x = x.contiguous()
        out = x.new_empty(x.shape[0], self.height)
        getattr(library, name)(
            best_path(instructions),
            ctypes.byref(MatrixStruct.of(self)),
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, out)),
            *(ctypes.c_int64(size) for size in (x.shape[0], self.width, self.height)),
            torch.get_num_threads(),
        )
        return out


class PackedSwiglu(PackedMatrix):
    """Gate and up of a feed-forward layer, [ffn, in] each, their panels in turn. Twin: `F.linear` and `swiglu`."""

    def __init__(
        self,
        gate: BFloat16[Tensor, "ffn in"] | QuantizedMatrix,
        up: BFloat16[Tensor, "ffn in"] | QuantizedMatrix,
    ) -> None:
        self._pack(gate, up)

    def __call__(
        self, x: BFloat16[Tensor, "rows in"], instructions: str | None = None
    ) -> BFloat16[Tensor, "rows ffn"]:
        """silu(gate x) · up x."""
        return self._product("camelid_swiglu", x, instructions)


class MatrixStruct(ctypes.Structure):
    """A packed matrix as the kernels take it; one of null pointers stands for none."""

    _fields_ = [("panels", ctypes.c_void_p), ("format", ctypes.c_int64)]

    @classmethod
    def of(cls, matrix: PackedMatrix | None) -> MatrixStruct:
        """Valid as long as the matrix lives."""
        return cls() if matrix is None else cls(matrix.panels.data_ptr(), matrix.format)


def to_panels(matrix: BFloat16[Tensor, "out in"]) -> BFloat16[Tensor, "panels pairs 16 2"]:
    """Panels of sixteen outputs, the last filled up with zeros."""
    width = matrix.shape[1]
    assert width % 2 == 0, width
    panels: Tensor = _by_sixteen(matrix).unflatten(2, (-1, 2)).transpose(1, 2).contiguous()
    return panels


def integer_panels(matrix: QuantizedMatrix) -> UInt8[Tensor, "panels blocks bytes"]:
    """Blocks of two groups: their scales, then their values without sign; quantized.h has the layout."""
    width = matrix.values.shape[1]
    blocks, zero = -(-width // (2 * GROUP_SIZE)), 1 << (matrix.bits - 1)
    scales = F.pad(matrix.scales, (0, 2 * blocks - matrix.scales.shape[1]))
    values = F.pad(matrix.values.short() + zero, (0, 2 * GROUP_SIZE * blocks - width), value=zero).to(
        torch.uint8
    )
    # Panels, outputs, blocks, groups, fours, four.
    values = _by_sixteen(values).unflatten(2, (blocks, 2, GROUP_SIZE // 4, 4)).permute(0, 2, 3, 4, 1, 5)
    if matrix.bits == 4:
        values = values[:, :, :, : GROUP_SIZE // 8] | values[:, :, :, GROUP_SIZE // 8 :] << 4
    scales = _by_sixteen(scales).unflatten(2, (blocks, 2)).permute(0, 2, 3, 1).contiguous()
    return torch.cat([scales.view(torch.uint8).flatten(2), values.flatten(2)], dim=2)


def _by_sixteen(matrix: Shaped[Tensor, "out in"]) -> Shaped[Tensor, "panels 16 in"]:
    panels: Tensor = F.pad(matrix, (0, 0, 0, -matrix.shape[0] % LANES)).unflatten(0, (-1, LANES))
    return panels
