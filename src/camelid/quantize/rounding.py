"""Rounds a model's matrices where they are: the same answers as from integer kernels, but nothing gets smaller."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from camelid.model import Llama4
from camelid.model.moe import Experts
from camelid.ops.quantization import Bits, quantize_groups

__all__ = ["round_weights"]


@torch.no_grad()
def round_weights(model: Llama4, bits: Bits) -> None:
    """The twin of packing with so many bits, on any device and in any dtype.

    A head tied to the embeddings stays: packed, it is a copy, but here the embeddings would be rounded as well.
    """
    for module in model.language_model.modules():
        if isinstance(module, nn.Linear):
            module.weight.copy_(_rounded(module.weight, bits))
        elif isinstance(module, Experts):
            for stacked in (module.gate_up_proj, module.down_proj):
                for expert in stacked:  # [in, out]
                    expert.copy_(_rounded(expert.T, bits).T)


def _rounded(matrix: Float[Tensor, "out in"], bits: Bits) -> Float[Tensor, "out in"]:
    return quantize_groups(matrix, bits).dequantize().to(matrix.dtype)
