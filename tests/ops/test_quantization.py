"""Whole numbers in groups, against ggml's formats of as many bits."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from camelid.ops.quantization import GROUP_SIZE, Bits, quantize_groups, round_rows


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("bits", "theirs", "ratio"), [(8, "Q8_0", 1.02), (4, "Q4_0", 0.95)])
def test_no_worse_than_ggml(bits: Bits, theirs: str, ratio: float) -> None:
    """In 8 bits the same but for the scale (bf16 here, fp16 there); in 4 bits the scale is chosen with more care."""
    matrix, kind = some(64, 512), gguf.GGMLQuantizationType[theirs]
    peer = gguf.quants.dequantize(gguf.quants.quantize(matrix.numpy(), kind), kind)
    peer_error = float(np.square(peer - matrix.numpy()).mean())
    error = float((quantize_groups(matrix, bits).dequantize() - matrix).square().mean())
    assert 0.5 * peer_error < error < ratio * peer_error


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("width", [1, 31, 32, 33, 130])
def test_ranges_and_ragged_groups(bits: Bits, width: int) -> None:
    matrix = some(5, width)
    matrix[2] = 0
    quantized = quantize_groups(matrix, bits)
    assert quantized.values.shape == matrix.shape and quantized.scales.shape == (5, -(-width // GROUP_SIZE))
    low, high = (-128, 127) if bits == 8 else (-8, 7)
    assert low <= int(quantized.values.min()) and int(quantized.values.max()) <= high
    assert not quantized.dequantize()[2].any()
    # Half a step, what a scale of eight binary digits adds, and the step that is missing on one side.
    step = quantized.scales.float().abs().repeat_interleave(GROUP_SIZE, 1)[:, :width]
    if bits == 8:
        assert ((quantized.dequantize() - matrix).abs() <= step * 1.5).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_twice_is_once(bits: Bits) -> None:
    """Even if the weights are bf16 in between, as they are when a folder is loaded."""
    once = quantize_groups(some(64, 320), bits)
    twice = quantize_groups(once.dequantize().bfloat16(), bits)
    assert torch.equal(once.values, twice.values) and torch.equal(once.scales, twice.scales)


def test_rows_keep_their_largest_value() -> None:
    x = some(3, 70)
    rounded = round_rows(x)
    for group in range(0, 70, GROUP_SIZE):
        part, kept = x[:, group : group + GROUP_SIZE], rounded[:, group : group + GROUP_SIZE]
        largest = part.abs().amax(1, keepdim=True)
        assert torch.allclose(kept.abs().amax(1, keepdim=True), largest, rtol=1e-6)
        assert ((kept - part).abs() <= largest / 253).all()
    assert not round_rows(torch.zeros(2, 40)).any()
