"""Rotations against formulas worked out pair by pair, and against transformers."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from transformers import Llama4TextConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from camelid.ops import apply_rope, patch_rotations, rope_frequencies, rotations

THETA = 500_000.0


def test_plain_frequencies() -> None:
    expected = [THETA ** (-2 * pair / 128) for pair in range(64)]
    assert rope_frequencies(128, THETA).tolist() == pytest.approx(expected, rel=1e-6)


def test_scout_slows_exactly_the_pairs_from_35_on() -> None:
    """Wavelengths above 8192: 29 of 64 pairs, each by 16 and nothing in between."""
    slowed_by = rope_frequencies(128, THETA) / rope_frequencies(128, THETA, 16.0, 1.0, 1.0, 8192)
    assert slowed_by.tolist() == [1.0] * 35 + [16.0] * 29
    assert 2 * math.pi * THETA ** (2 * 34 / 128) < 8192 < 2 * math.pi * THETA ** (2 * 35 / 128)


@pytest.mark.parametrize(("factor", "low", "high"), [(16.0, 1.0, 1.0), (8.0, 1.0, 4.0)])
def test_scaling_equals_transformers(factor: float, low: float, high: float) -> None:
    """Scout as released, and the smooth band that its first-week config had."""
    config = Llama4TextConfig(
        head_dim=128,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": THETA,
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": 8192,
        },
    )
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    torch.testing.assert_close(
        rope_frequencies(128, THETA, factor, low, high, 8192), expected, rtol=1e-6, atol=0
    )


def test_pairs_are_interleaved() -> None:
    """Features 2i and 2i + 1 turn together by position times frequency."""
    x = torch.randn(3, 2, 8)
    frequencies = rope_frequencies(8, 100.0)
    turned = apply_rope(x, rotations(torch.tensor([0, 1, 7]), frequencies))
    for token, position in enumerate([0, 1, 7]):
        for pair in range(4):
            before = torch.view_as_complex(x[token, :, 2 * pair : 2 * pair + 2].contiguous())
            after = before * cmath.exp(1j * position * 100.0 ** (-2 * pair / 8))
            torch.testing.assert_close(
                turned[token, :, 2 * pair : 2 * pair + 2], torch.view_as_real(after), atol=1e-6, rtol=0
            )


def test_scores_depend_on_the_distance_only() -> None:
    q, k = torch.randn(1, 1, 16), torch.randn(1, 1, 16)
    frequencies = rope_frequencies(16, THETA)

    def score(query_at: int, key_at: int) -> float:
        turned = (
            apply_rope(x, rotations(torch.tensor([at]), frequencies))
            for x, at in ((q, query_at), (k, key_at))
        )
        return float(torch.stack(list(turned)).prod(0).sum())

    assert score(9, 2) == pytest.approx(score(107, 100), abs=1e-4)
    assert abs(score(9, 2) - score(9, 3)) > 1e-3


def test_bf16_is_turned_in_fp32() -> None:
    x = torch.randn(4, 1, 8).to(torch.bfloat16)
    turns = rotations(torch.arange(4), rope_frequencies(8, THETA))
    assert torch.equal(apply_rope(x, turns), apply_rope(x.float(), turns))


def test_two_dimensional_angles_by_formula() -> None:
    """f_j = theta^(-2j / (d/2)); half of the pairs turn by (column + 1) f_j, the others by (row + 1) f_j."""
    side, head_dim, theta = 3, 24, 10_000.0
    turns = patch_rotations(side, head_dim, theta)
    assert turns.shape == (side * side + 1, head_dim // 2)
    frequencies = [theta ** (-2 * j / (head_dim / 2)) for j in range(head_dim // 4)]
    for row in range(side):
        for column in range(side):
            angles = [(column + 1) * f for f in frequencies] + [(row + 1) * f for f in frequencies]
            expected = torch.tensor([cmath.exp(1j * angle) for angle in angles])
            torch.testing.assert_close(turns[row * side + column], expected, atol=1e-6, rtol=0)
    assert torch.equal(turns[-1], torch.ones_like(turns[-1])), "the class token is not turned"
