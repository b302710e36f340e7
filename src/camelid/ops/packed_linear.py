"""Weights laid out once for oneDNN's bf16 kernels: one row times a matrix then runs at the speed of memory.

A plain `F.linear` of one bf16 row reads a CPU's memory at about two thirds of its rate, since the kernel takes the
weight as it lies. Packing copies the weight; whoever packs lets go of the original.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PackedMatrix", "can_pack", "pack_matrix"]


class PackedMatrix(NamedTuple):
    """A weight [out, in] in oneDNN's own layout."""

    weight: Tensor
    out_features: int

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """x times the transposed weight, as `F.linear`, which is its twin."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")
        return out


def can_pack(weight: Tensor) -> bool:
    """Whether this build and this CPU have such kernels for the weight's dtype."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def pack_matrix(weight: Float[Tensor, "out in"], rows: int = 1) -> PackedMatrix:
    """Packs for products with about `rows` rows; others work too, a little slower."""
    assert can_pack(weight), f"no packed kernel for {weight.dtype} on {weight.device}"
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
    return PackedMatrix(packed, weight.shape[0])
