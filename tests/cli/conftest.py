"""Pictures, clips and steps to show."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from camelid.eval import GalleryItem
from camelid.train.step import StepMetrics


def make_step(number: int, num_steps: int = 100, num_skipped_examples: int = 0) -> StepMetrics:
    """Losses fall; layer 0 gives all text to expert 0; every third step has no clip."""
    fall = math.exp(-number / 30)
    losses = {"text": 4 * fall, "image": 2 * fall} | ({"video": fall} if number % 3 else {})
    return StepMetrics(
        step=number,
        progress=number / num_steps,
        loss=2 * fall,
        loss_by_modality=losses,
        balance_loss=0.01,
        grad_norm=0.5,
        lr=1e-3,
        is_skipped=False,
        num_tokens=1000,
        num_valid_tokens=100.0,
        num_tiles=20,
        max_vio=0.1,
        expert_counts=[[[30, 0, 0, 0], [5, 5, 5, 5], [0, 0, 10, 10]], [[1, 2, 3, 4]] * 3],
        seconds=2.0,
        num_skipped_examples=num_skipped_examples,
    )


def face(colour: str, size: int = 64) -> Image.Image:
    """A disc on white."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((4, 4, size - 4, size - 4), fill=colour)
    return image


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def step() -> Callable[..., StepMetrics]:
    return make_step


@pytest.fixture
def picture_path(tmp_path: Path) -> Path:
    path = tmp_path / "my face.png"
    face("gold").save(path)
    return path


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    path = tmp_path / "clip.webp"
    frames = [face(colour) for colour in ("gold", "tomato", "skyblue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, lossless=True)
    return path


@pytest.fixture
def items() -> list[GalleryItem]:
    """A right and a wrong answer."""
    visual = (png(face("gold")),)
    return [
        GalleryItem("name it", "What is this?", visual, "a face", "a face", True),
        GalleryItem("colour", "What <b>colour</b> & shape?", visual, "blue", "yellow", False),
    ]
