"""Rotary positions, 1-D for text and 2-D for image patches, on interleaved pairs (0, 1), (2, 3), …"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

__all__ = ["apply_rope", "patch_rotations", "rope_frequencies", "rotations"]


def rope_frequencies(
    head_dim: int,
    theta: float,
    factor: float = 1.0,
    low_freq_factor: float = 1.0,
    high_freq_factor: float = 1.0,
    original_length: int = 8192,
) -> Float[Tensor, "pairs"]:
    """Radians per position for each pair: theta^(-2i/head_dim), slowed down by the Llama 3 scaling rule.

    Wavelengths above original_length/low are divided by `factor`, those below original_length/high stay; in
    between the two are blended. Scout has low = high, so there is no between.
    """
    frequencies = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim)
    if factor == 1.0:
        return frequencies
    wavelengths = 2 * math.pi / frequencies
    slowed = torch.where(wavelengths > original_length / low_freq_factor, frequencies / factor, frequencies)
    if low_freq_factor == high_freq_factor:
        return slowed
    blend = (original_length / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    blended = (1 - blend) * frequencies / factor + blend * frequencies
    is_between = (wavelengths <= original_length / low_freq_factor) & (
        wavelengths >= original_length / high_freq_factor
    )
    return torch.where(is_between, blended, slowed)


def rotations(
    positions: Int[Tensor, "tokens"], frequencies: Float[Tensor, "pairs"]
) -> Complex[Tensor, "tokens pairs"]:
    """Unit complex numbers that turn each pair at each position."""
    angles = torch.outer(positions.to(frequencies.dtype), frequencies)
    return torch.polar(torch.ones_like(angles), angles)


def patch_rotations(patches_per_side: int, head_dim: int, theta: float) -> Complex[Tensor, "patches pairs"]:
    """2-D rotations of a square tile: the first half of the pairs follows column + 1, the second row + 1.

    The class token, last in the sequence, is not rotated. Source: Meta's `vision/encoder.py`.
    """
    frequencies = theta ** -(torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
    steps = torch.arange(1, patches_per_side + 1).float()
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    angles = torch.cat([columns.reshape(-1, 1) * frequencies, rows.reshape(-1, 1) * frequencies], dim=-1)
    angles = torch.cat([angles, torch.zeros_like(angles[:1])])
    return torch.polar(torch.ones_like(angles), angles)


def apply_rope(
    x: Float[Tensor, "*batch tokens heads head_dim"], turns: Complex[Tensor, "tokens pairs"]
) -> Float[Tensor, "*batch tokens heads head_dim"]:
    """Turns interleaved pairs of every head. The result is fp32 whatever x is: attention wants it so."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns[:, None]).flatten(-2)
