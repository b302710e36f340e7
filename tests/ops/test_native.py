"""Native products against torch's in fp32, on every instruction set of this processor."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from camelid.ops import swiglu
from camelid.ops.native import FORMATS, PackedMatrix, PackedSwiglu, missing_because, native_paths, to_panels
from camelid.ops.native.library import SWITCH
from camelid.ops.quantization import GROUP_SIZE, Bits, quantize_groups, round_rows


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def with_exact_steps(x: Tensor) -> Tensor:
    """A power of two as a group's largest value makes steps exact: halves go the same way on every path."""
    x = x.clamp(-7, 7)
    x[:, ::GROUP_SIZE] = 8
    return x


def assert_is_rounding(found: Tensor, exact: Tensor) -> None:
    """bf16 keeps 8 bits: half a unit in the last place is up to 2^-8 of a value; sums in fp32 add next to nothing."""
    assert found.dtype == torch.bfloat16 and found.shape == exact.shape
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-7.99 + 1e-5).all()


def test_there_are_kernels_here() -> None:
    assert missing_because() == "" and list(native_paths())[-1] == "baseline"


@pytest.mark.parametrize("instructions", native_paths())
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 13, 200])
@pytest.mark.parametrize(("height", "width"), [(1, 2), (16, 64), (33, 34), (96, 130)])
def test_a_matrix(instructions: str, rows: int, height: int, width: int) -> None:
    matrix, x = some(height, width), some(rows, width, seed=1)
    found = PackedMatrix(matrix)(x, instructions)
    assert_is_rounding(found, x.double() @ matrix.double().T)


@pytest.mark.parametrize("instructions", native_paths())
@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("ffn", [16, 40])
def test_gate_and_up(instructions: str, rows: int, ffn: int) -> None:
    gate, up, x = some(ffn, 48), some(ffn, 48, seed=1), some(rows, 48, seed=2)
    exact = F.linear(x.double(), torch.cat([gate, up]).double())
    with torch.no_grad():
        assert_is_rounding(PackedSwiglu(gate, up)(x, instructions), swiglu(exact))


@pytest.mark.parametrize("instructions", native_paths())
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, 2, 6, 13])
@pytest.mark.parametrize(("height", "width"), [(1, 2), (33, 34), (96, 130), (64, 512)])
def test_a_matrix_of_fewer_bits(instructions: str, bits: Bits, rows: int, height: int, width: int) -> None:
    matrix, x = quantize_groups(some(height, width), bits), with_exact_steps(some(rows, width, seed=1))
    found = PackedMatrix(matrix)(x, instructions)
    assert_is_rounding(found, round_rows(x).double() @ matrix.dequantize().double().T)


@pytest.mark.parametrize("bits", [8, 4])
def test_gate_and_up_of_fewer_bits(bits: Bits) -> None:
    gate, up = quantize_groups(some(40, 48), bits), quantize_groups(some(40, 48, seed=1), bits)
    x = with_exact_steps(some(7, 48, seed=2))
    exact = round_rows(x).double() @ torch.cat([gate.dequantize(), up.dequantize()]).double().T
    assert_is_rounding(PackedSwiglu(gate, up)(x), swiglu(exact))


@pytest.mark.parametrize("bits", FORMATS)
def test_a_row_does_not_feel_its_neighbours(bits: Bits | None) -> None:
    weights, x = some(70, 258), some(23, 258, seed=1)
    matrix = PackedMatrix(quantize_groups(weights, bits) if bits else weights)
    together = matrix(x)
    for first, last in ((0, 1), (3, 5), (4, 10), (9, 23)):
        assert torch.equal(matrix(x[first:last]), together[first:last])


def test_a_strided_input() -> None:
    matrix, x = some(32, 8), some(8, 4, seed=1).T
    assert torch.equal(PackedMatrix(matrix)(x), PackedMatrix(matrix)(x.contiguous()))


def test_infinities_and_nans_arrive() -> None:
    matrix, x = some(20, 8), some(3, 8, seed=1)
    x[0, 3], x[1, 5] = float("inf"), float("nan")
    found = PackedMatrix(matrix)(x)
    assert found[0].isinf().all() and found[1].isnan().all() and found[2].isfinite().all()


def test_panels_are_the_matrix_again() -> None:
    matrix = some(40, 6)
    back = to_panels(matrix).transpose(1, 2).flatten(2).flatten(0, 1)
    assert torch.equal(back[:40], matrix) and not back[40:].any()


def test_the_switch() -> None:
    """Without kernels the package says why and goes on."""
    code = "from camelid.ops.native import missing_because, native_paths; print(missing_because(), native_paths())"
    environment = os.environ | {SWITCH: "0"}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == f"{SWITCH}=0 {{}}"
