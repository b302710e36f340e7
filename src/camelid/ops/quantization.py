"""Fewer bits: whole numbers in groups along the input, each group with a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Float, Int8
from torch import Tensor

__all__ = ["GROUP_SIZE", "Bits", "QuantizedMatrix", "quantize_groups", "round_rows"]

GROUP_SIZE = 32
# Shares of a group's largest value that an int4 scale is tried for: what lies beyond is cut off, the rest gets finer.
_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8)
_BLOCK = 1 << 19  # weights that are looked at together: what comes and goes with them stays in the cache

Bits = Literal[8, 4]


@dataclass(frozen=True)
class QuantizedMatrix:
    """Weights are `values` times their group's scale. Groups are consecutive inputs; the last one may be shorter."""

    values: Int8[Tensor, "out in"]  # -128 … 127 in 8 bits, -8 … 7 in 4
    scales: BFloat16[Tensor, "out groups"]
    bits: Bits

    def dequantize(self) -> Float[Tensor, "out in"]:
        """In fp32, where it is exact."""
        scales = self.scales.float().repeat_interleave(GROUP_SIZE, dim=1)
        return self.values.float() * scales[:, : self.values.shape[1]]


def quantize_groups(matrix: Float[Tensor, "out in"], bits: Bits) -> QuantizedMatrix:
    """The nearest weights of so few bits.

    A group's largest value is -128 steps, or -8: a scale may be negative, so that all numbers are used. In 4 bits it
    may be cut off to somewhat less, if that brings the group's weights nearer in the mean square. What was quantised
    before stays as it is, also if it was rounded to bf16 in between.
    """
    parts = [_quantize_rows(rows, bits) for rows in matrix.split(max(1, _BLOCK // matrix.shape[1]))]
    values, scales = (torch.cat(blocks) for blocks in zip(*parts, strict=True))
    return QuantizedMatrix(values, scales, bits)


def _quantize_rows(
    matrix: Float[Tensor, "out in"], bits: Bits
) -> tuple[Int8[Tensor, "out in"], BFloat16[Tensor, "out groups"]]:
    height, width = matrix.shape
    padded = F.pad(matrix.float(), (0, -width % GROUP_SIZE))
    groups = padded.view(height, -1, GROUP_SIZE)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    if bits == 8:
        scales = (largest / -128).bfloat16()
        values = _nearest(groups, scales, 8)
    else:
        values, scales = _best_of_shares(groups, largest / -8)
    return values.flatten(1)[:, :width], scales.squeeze(-1)


def _best_of_shares(
    groups: Float[Tensor, "out groups 32"], full: Float[Tensor, "out groups 1"]
) -> tuple[Int8[Tensor, "out groups 32"], BFloat16[Tensor, "out groups 1"]]:
    scales = full.bfloat16()
    values = _nearest(groups, scales, 4)
    error = (values * scales.float() - groups).square().sum(-1, keepdim=True)
    for share in _SHARES[1:]:
        tried = (share * full).bfloat16()
        tried_values = _nearest(groups, tried, 4)
        tried_error = (tried_values * tried.float() - groups).square().sum(-1, keepdim=True)
        is_better = tried_error < error
        scales, error = torch.where(is_better, tried, scales), torch.where(is_better, tried_error, error)
        values = torch.where(is_better, tried_values, values)
    return values, scales


def _nearest(groups: Tensor, scales: Tensor, bits: Bits) -> Tensor:
    """A group of zeros has the scale zero, and stays."""
    wide, most = scales.float(), 1 << (bits - 1)
    return (groups / torch.where(wide == 0, 1.0, wide)).round().clamp(-most, most - 1).to(torch.int8)


def round_rows(x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows in"]:
    """What integer kernels make of their input: groups of 32 in 127 steps to each side. fp32."""
    padded = F.pad(x.float(), (0, -x.shape[1] % GROUP_SIZE))
    groups = padded.view(x.shape[0], -1, GROUP_SIZE)
    largest = groups.abs().amax(-1, keepdim=True)
    steps = (groups * torch.where(largest == 0, 0.0, 127 / largest)).round()
    return (steps * (largest / 127)).flatten(1)[:, : x.shape[1]]
