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


class PackedMatrix(NamedTuple):
    """A weight [out, in] in oneDNN's own layout, or as it was where there is no such kernel."""

    weight: Tensor
    is_packed: bool

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """x times the transposed weight, as `F.linear`, which is its twin."""
        if not self.is_packed:
            return F.linear(x, self.weight)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")
        return out


def pack_matrix(weight: Float[Tensor, "out in"], rows: int = 1) -> PackedMatrix:
    """Packs for products with about `rows` rows; others work too, a little slower."""
    weight = weight.detach().contiguous()
    if not _can_pack(weight):
        return PackedMatrix(weight, False)
    return PackedMatrix(torch.ops.mkldnn._reorder_linear_weight(weight, rows), True)


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
