"""Altered drawings stay what they were: same size, same place or near it, same colours where it matters."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from camelid.data.augment import (
    AugmentConfig,
    augment_drawing,
    cut_out,
    on_white,
    random_background,
    recolour,
)

STILL = AugmentConfig(
    scale=(1.0, 1.0),
    rotation_degrees=0.0,
    wide_rotation_degrees=0.0,
    shear=0.0,
    perspective=0.0,
    white_share=1.0,
)


def disc(colour: str = "red") -> Image.Image:
    drawing = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(drawing).ellipse((12, 12, 52, 52), fill=colour)
    return drawing


def rng(number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([7, number]))


def test_same_randomness_same_picture() -> None:
    pictures = [augment_drawing(disc(), rng(number)) for number in (0, 0, 1)]
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (64, 64))] * 3
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()


def test_the_drawing_given_is_not_changed() -> None:
    drawing = disc()
    before = drawing.tobytes()
    for number in range(20):
        augment_drawing(drawing, rng(number))
    assert drawing.tobytes() == before


def test_figures_stay_in_the_picture_and_differ_from_it() -> None:
    """On white, between a sixth and four fifths of the picture is figure, and its middle is near the middle."""
    config = AugmentConfig(white_share=1.0)
    shares, offsets = [], []
    for number in range(200):
        pixels = np.asarray(augment_drawing(disc(), rng(number), config)).astype(int)
        rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 2] > 60)
        if len(rows):
            shares.append(len(rows) / 64**2)
            offsets.append(max(abs(rows.mean() - 31.5), abs(columns.mean() - 31.5)))
    # A few lose their colour on purpose.
    assert len(shares) > 170
    low, high = np.quantile(shares, (0.05, 0.95))
    assert 0.05 < low < high < 0.8
    assert np.std(shares) > 0.05 and np.quantile(offsets, 0.95) < 22


@pytest.mark.parametrize("colour", ["red", "orange", "yellow", "green", "blue", "purple"])
def test_hues_are_kept_when_asked_and_turn_a_little_when_not(colour: str) -> None:
    def hue_degrees(picture: Image.Image) -> float:
        red, green, blue = (value / 255 for value in picture.getpixel((32, 32))[:3])
        return 360 * colorsys.rgb_to_hsv(red, green, blue)[0]

    def turns(hue_limit: float) -> np.ndarray:
        altered = (recolour(disc(colour), rng(number), hue_degrees=hue_limit) for number in range(100))
        return np.array([(hue_degrees(one) - hue_degrees(disc(colour)) + 180) % 360 - 180 for one in altered])

    assert np.abs(turns(0.0)).max() < 8
    assert 4 < np.abs(turns(15.0)).max() < 50


def test_nothing_is_mirrored() -> None:
    """A drawing whose left half is red and right half is blue always has more red on the left."""
    drawing = Image.new("RGBA", (64, 64), "blue")
    drawing.paste("red", (0, 0, 32, 64))
    num_kept = 0
    for number in range(100):
        pixels = np.asarray(augment_drawing(drawing, rng(number), AugmentConfig(white_share=1.0))).astype(int)
        redness = pixels[..., 0] - pixels[..., 2]
        num_kept += redness[:, :32].mean() > redness[:, 32:].mean()
    # A covered patch may outweigh a small grey figure now and then; mirroring would turn half of them.
    assert num_kept >= 97


def test_a_still_config_moves_nothing() -> None:
    pixels = np.asarray(augment_drawing(disc(), rng(3), STILL)).astype(int)
    rows, columns = np.nonzero(pixels.min(axis=2) < 200)
    assert abs(rows.mean() - 32) < 4.5 and abs(columns.mean() - 32) < 4.5


def test_backgrounds_are_white_as_often_as_asked() -> None:
    backgrounds = [np.asarray(random_background(64, rng(number), 0.4)) for number in range(300)]
    white = sum(bool((pixels == 255).all()) for pixels in backgrounds) / 300
    plain = sum(bool((pixels == pixels[0, 0]).all()) for pixels in backgrounds) / 300
    assert 0.3 < white < 0.5 and 0.58 < plain < 0.82


def test_on_white_is_exact() -> None:
    pixels = np.asarray(on_white(disc("blue")))
    assert (pixels[0, 0] == 255).all() and (pixels[32, 32] == (0, 0, 255)).all()
    assert on_white(disc(), 32).size == (32, 32)


def test_cut_out_keeps_white_inside() -> None:
    picture = on_white(disc("blue"), 64)
    ImageDraw.Draw(picture).rectangle((28, 28, 36, 36), fill="white")
    alpha = np.asarray(cut_out(picture).getchannel("A"))
    assert alpha[0, 0] == 0 and alpha[32, 32] == 255 and alpha[20, 32] == 255


def test_a_white_figure_stays_light_in_every_style() -> None:
    for number in range(300):
        pixels = np.asarray(augment_drawing(disc("white"), rng(number), STILL))
        # The disc is a third of the picture; an outline and a covered patch are less than a fifth.
        assert (pixels.mean(axis=2) > 130).mean() > 0.8
