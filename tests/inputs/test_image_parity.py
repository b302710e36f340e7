"""Our tiles and tokens against Meta's reference and transformers' processor, on photographs of all sorts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

TABLE = Path(__file__).parents[2] / "scripts" / "preprocessing_table.py"

# What Meta's reference does to files when it opens them, and what we do instead.
HIDDEN_COLOURS_SHOW = {  # ours: transparency on white, as Meta does for RGBA alone and transformers for all
    "PNG, grey with alpha",
    "PNG, palette, one colour transparent",
    "PNG, palette with alpha",
    "PNG, one colour transparent",
    "GIF, transparent",
}
CLIPPED = {"PNG, 16 bit grey", "TIFF, 16 bit grey"}  # ours: scaled; transformers clips too
LYING = {f"JPEG, EXIF orientation {turn}" for turn in range(2, 9)}  # ours: upright, as transformers' loader
ON_THE_SIDE = {f"JPEG, EXIF orientation {turn}" for turn in range(5, 9)}


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """The references run in a process of their own: see scripts/preprocessing_references.py."""
    command = [sys.executable, str(TABLE), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def rows(measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["picture"]: row for row in measured["rows"]}


pytestmark = pytest.mark.timeout(
    400
)  # 70 pictures through three preprocessors: half a minute on an idle core


def test_there_are_enough_pictures(rows: dict[str, dict[str, Any]]) -> None:
    sizes = {tuple(row["size"]) for row in rows.values()}
    assert {(1, 1), (1, 5000), (5000, 1), (10, 4000), (337, 336), (200, 300), (3000, 4000)} <= sizes
    assert len(sizes) >= 35 and len(rows) >= 65
    assert HIDDEN_COLOURS_SHOW | CLIPPED | LYING <= set(rows)


def test_canvas_tiles_and_token_ids_are_the_references(rows: dict[str, dict[str, Any]]) -> None:
    assert {name for name, row in rows.items() if not row["transformers"]["is_same_layout"]} == set()
    assert {name for name, row in rows.items() if not row["meta_after_opening"]["is_same_layout"]} == set()
    assert {name for name, row in rows.items() if not row["meta"]["is_same_layout"]} == ON_THE_SIDE


def test_pixels_are_metas_to_the_bit(rows: dict[str, dict[str, Any]]) -> None:
    assert {name: row["meta_after_opening"]["largest"] for name, row in rows.items()} == dict.fromkeys(
        rows, 0
    )


def test_files_are_opened_as_meta_does_but_for_three_things(rows: dict[str, dict[str, Any]]) -> None:
    differing = {name for name, row in rows.items() if row["meta"]["largest"]}
    assert differing == HIDDEN_COLOURS_SHOW | CLIPPED | LYING
    assert min(rows[name]["meta"]["largest"] for name in differing) > 100


def test_pixels_are_transformers_within_one_level(rows: dict[str, dict[str, Any]]) -> None:
    largest = {name: row["transformers"]["largest"] for name, row in rows.items()}
    assert {name for name, level in largest.items() if level > 1} == CLIPPED
    shares = [row["transformers"]["share"] for name, row in rows.items() if name not in CLIPPED]
    assert 0 < max(shares) < 0.05  # measured: 0.031, where Pillow resizes vertically first


def test_normalisation_is_metas_to_the_bit(measured: dict[str, Any]) -> None:
    """transformers computes in bf16 throughout: half of the levels differ, and its error is twice ours."""
    found = measured["normalisation"]
    assert (found["not_metas_fp32"], found["not_metas_bf16"]) == (0, 0)
    assert found["not_transformers_bf16"] == 128
    assert found["our_bf16_error"] < 0.25 < 0.49 < found["transformers_bf16_error"] < 0.5


def test_meta_alone_reads_truncated_files(measured: dict[str, Any]) -> None:
    """And changes Pillow for the whole process, but not for us: tests/inputs/test_damaged_files.py."""
    assert measured["reads_truncated"] == {"Meta": True, "transformers": False, "Camelid": False}


def weights(have: int, want: int) -> Tensor:
    """[want, have], fp64: what bilinear antialiased resizing takes from each pixel of a line."""
    identity = torch.eye(have, dtype=torch.float64)[None, None]
    return F.interpolate(identity, size=(have, want), mode="bilinear", antialias=True)[0, 0].T


def one_way(pixels: Tensor, weight: Tensor, bits: int) -> Tensor:
    """The last dimension resized with integer weights of so many binary places, rounded to levels."""
    integers = (weight * 2**bits + 0.5).floor()
    return ((pixels @ integers.T + 2 ** (bits - 1)) / 2**bits).floor()


def sixteen_bits(weight: Tensor) -> int:
    """As many binary places as leave the largest weight in a signed 16-bit integer."""
    return next(bits for bits in range(23) if int(weight.max() * 2 ** (bits + 1) + 0.5) >= 2**15)


@pytest.mark.parametrize(
    ("height", "width", "is_vertical_first"),
    [(300, 457, False), (720, 1280, False), (457, 300, True), (1000, 21, True)],
)
def test_where_the_one_level_comes_from(height: int, width: int, is_vertical_first: bool) -> None:
    """Pillow weighs with 22 binary places and picks which way goes first; torch with 16 bits, across first."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    across, down = weights(width, 336), weights(height, 336)

    def resized(bits_across: int, bits_down: int, is_down_first: bool) -> Tensor:
        if is_down_first:
            lines = one_way(image.double().mT, down, bits_down).mT
            return one_way(lines, across, bits_across)
        return one_way(one_way(image.double(), across, bits_across).mT, down, bits_down).mT

    pillow = Image.fromarray(pixels).resize((336, 336), Image.Resampling.BILINEAR)
    assert torch.equal(
        resized(22, 22, is_vertical_first), torch.from_numpy(np.array(pillow)).permute(2, 0, 1).double()
    )
    by_torch = F.interpolate(image.contiguous()[None], size=(336, 336), mode="bilinear", antialias=True)[0]
    assert torch.equal(resized(sixteen_bits(across), sixteen_bits(down), False), by_torch.double())
