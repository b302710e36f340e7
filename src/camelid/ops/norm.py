"""RMS normalisation in fp32, as every Llama does it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["rms_norm"]


def rms_norm(
    x: Float[Tensor, "*rows features"], weight: Float[Tensor, "features"] | None, eps: float
) -> Float[Tensor, "*rows features"]:
    """x / sqrt(mean(x²) + eps) in fp32, cast back to x's dtype, then times `weight` (None: no weight)."""
    wide = x.float()
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)
    return normed if weight is None else normed * weight
