"""Weights laid out once for oneDNN's bf16 kernels: one row times a matrix then runs at the speed of memory.

A plain `F.linear` of one bf16 row reads a CPU's memory at about two thirds of its rate, since the kernel takes the
weight as it lies. Packing copies the weight; whoever packs lets go of the original.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["PackedMatrix", "pack_matrix"]

# One row reads memory at 0.75 of its rate, six at 0.96: for one to four rows oneDNN's kernels wait for the weights.
FAST_ROWS = 6


class PackedMatrix(NamedTuple):
    """A weight [out, in] in oneDNN's own layout, or as it was where there is no such kernel."""

    weight: Tensor
    is_packed: bool

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """x times the transposed weight, as `F.linear`, which is its twin."""
        if not self.is_packed:
            return F.linear(x, self.weight)
        rows = x.shape[0]
        if rows == 1:
            x = x.expand(FAST_ROWS, -1).contiguous()  # quicker than to pad
        elif rows < FAST_ROWS:
            x = F.pad(x, (0, 0, 0, FAST_ROWS - rows))
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")
        return out[:rows]


def pack_matrix(weight: Float[Tensor, "out in"]) -> PackedMatrix:
    """Packs for products with few rows; more work too, a little slower."""
    weight = weight.detach().contiguous()
    if not _can_pack(weight):
        return PackedMatrix(weight, False)
    return PackedMatrix(torch.ops.mkldnn._reorder_linear_weight(weight, FAST_ROWS), True)


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
