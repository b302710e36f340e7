"""Norms against their twins and against torch."""

from __future__ import annotations

import pytest
import torch

from camelid.ops import compute_dtype, layer_norm, rms_norm
from camelid.ops.norm import plain_rms_norm

EPS = 1e-5
TOLERANCE = 2e-6  # fp32; measured: 4.8e-7 on values and gradients of size 5


@pytest.mark.parametrize("has_weight", [True, False])
@pytest.mark.parametrize("shape", [(6, 16), (3, 4, 8)])
def test_rms_norm_equals_its_twin_and_torch(shape: tuple[int, ...], has_weight: bool) -> None:
    x = torch.randn(shape, requires_grad=True)
    weight = torch.randn(shape[-1], requires_grad=True) if has_weight else None
    leaves = [x] if weight is None else [x, weight]
    upstream = torch.randn(shape)
    ours = rms_norm(x, weight, EPS)
    gradients = torch.autograd.grad(ours, leaves, upstream)
    for twin in (
        plain_rms_norm(x, weight, EPS),
        torch.nn.functional.rms_norm(x, shape[-1:], weight, EPS),
    ):
        torch.testing.assert_close(ours, twin, atol=TOLERANCE, rtol=0)
        expected = torch.autograd.grad(twin, leaves, upstream)
        torch.testing.assert_close(gradients, expected, atol=TOLERANCE, rtol=0)


def test_rms_norm_of_zeros_is_zero_with_a_finite_gradient() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    out = rms_norm(x, None, EPS)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(2, 8))
    assert x.grad is not None and x.grad.isfinite().all()


def test_bf16_is_normed_in_fp32_then_cast_then_weighted() -> None:
    x = (torch.randn(64, 32) * 10).to(torch.bfloat16)
    weight = torch.randn(32).to(torch.bfloat16)
    wide = x.double()
    normed = (wide / (wide.square().mean(-1, keepdim=True) + EPS).sqrt()).to(torch.bfloat16)
    assert torch.equal(rms_norm(x, weight, EPS), normed * weight)


def test_autocast_decides_what_comes_out() -> None:
    x, weight = torch.randn(2, 8), torch.ones(8)
    assert rms_norm(x, weight, EPS).dtype == layer_norm(x, weight, weight, EPS).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert compute_dtype(x) == torch.bfloat16
        assert rms_norm(x, weight, EPS).dtype == layer_norm(x, weight, weight, EPS).dtype == torch.bfloat16


def test_layer_norm_by_formula() -> None:
    x, weight, bias = torch.randn(5, 8), torch.randn(8), torch.randn(8)
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * weight + bias
    torch.testing.assert_close(layer_norm(x, weight, bias, EPS), expected, atol=TOLERANCE, rtol=0)
