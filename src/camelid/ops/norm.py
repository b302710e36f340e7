"""Normalisation in fp32, handed on in the dtype that the next matmul computes in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["compute_dtype", "layer_norm", "plain_rms_norm", "rms_norm"]


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which matmuls on x run: autocast's where it is on, else x's own.

    Autocast itself would cast the same activations again for every projection that reads them.
    """
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def rms_norm(
    x: Float[Tensor, "*rows features"], weight: Float[Tensor, "features"] | None, eps: float
) -> Float[Tensor, "*rows features"]:
    """x / sqrt(mean(x²) + eps) in fp32, cast back to x's dtype, then times `weight` (None: no weight).

    Keeps x and one number per row for the backward pass. Twin: `plain_rms_norm`.
    """
    if not torch.is_grad_enabled():
        return plain_rms_norm(x, weight, eps).to(compute_dtype(x))
    out: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out.to(compute_dtype(x))


def plain_rms_norm(
    x: Float[Tensor, "*rows features"], weight: Float[Tensor, "features"] | None, eps: float
) -> Float[Tensor, "*rows features"]:
    """The slow twin of `rms_norm`, under stock autograd."""
    wide = x.float()
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)
    return normed if weight is None else normed * weight


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor | None, eps: float
    ) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, scale)  # type: ignore[arg-type]
        normed = (wide * scale).to(x.dtype)
        return normed if weight is None else normed * weight

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors  # type: ignore[attr-defined]
        grad = grads[0].float()
        normed = x.float() * scale
        grad_weight = None
        if weight is not None:
            grad_weight = (grad * normed).flatten(0, -2).sum(0).to(weight.dtype)
            grad = grad * weight
        grad_x = torch.addcmul(grad, normed, (grad * normed).mean(-1, keepdim=True), value=-1).mul_(scale)
        return grad_x.to(x.dtype), grad_weight, None


def layer_norm(
    x: Float[Tensor, "*rows features"],
    weight: Float[Tensor, "features"],
    bias: Float[Tensor, "features"],
    eps: float,
) -> Float[Tensor, "*rows features"]:
    """(x - mean) / sqrt(var + eps) · weight + bias."""
    return F.layer_norm(x, weight.shape, weight, bias, eps).to(compute_dtype(x))
