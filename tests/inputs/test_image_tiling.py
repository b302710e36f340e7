"""Pictures and tiles, against published sizes, Hugging Face's own functions and damaged files."""

from __future__ import annotations

import importlib.util
import io
import math
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from camelid.core.errors import ImageError
from camelid.inputs import choose_canvas, cut_tiles, load_image
from camelid.inputs.image_tiling import resized_size

# Size (height, width), canvas (rows, cols), resized size, tiles fed: Llama 4's, by Hugging Face's functions.
GOLDEN = [
    ((100, 100), (1, 1), (336, 336), 1),
    ((200, 300), (1, 1), (224, 336), 1),
    ((337, 336), (2, 1), (337, 336), 3),
    ((512, 512), (2, 2), (512, 512), 5),
    ((480, 640), (2, 2), (480, 640), 5),
    ((683, 1024), (3, 4), (683, 1024), 13),
    ((720, 1280), (3, 4), (720, 1280), 13),
    ((1000, 1000), (3, 3), (1000, 1000), 10),
    ((1080, 1920), (3, 5), (945, 1680), 16),
    ((3000, 4000), (3, 4), (1008, 1344), 13),
    ((2000, 2000), (4, 4), (1344, 1344), 17),
    ((10, 4000), (1, 12), (10, 4000), 13),
]


@pytest.mark.parametrize(("size", "canvas", "resized", "num_tiles"), GOLDEN)
def test_golden_sizes(
    size: tuple[int, int], canvas: tuple[int, int], resized: tuple[int, int], num_tiles: int
) -> None:
    assert choose_canvas(*size, tile_size=336, max_tiles=16) == canvas
    assert resized_size(*size, *canvas, tile_size=336) == resized
    cut = cut_tiles(Image.new("RGB", (size[1], size[0])), tile_size=336, max_tiles=16)
    assert (cut.rows, cut.cols) == canvas
    assert cut.tiles.shape == (num_tiles, 3, 336, 336)
    assert cut.tiles.dtype == torch.uint8


def test_sizes_equal_hugging_faces(definitions_from: Callable[..., dict[str, Any]]) -> None:
    spec = importlib.util.find_spec("transformers")
    assert spec and spec.submodule_search_locations
    theirs = definitions_from(
        Path(spec.submodule_search_locations[0]) / "models/llama4/image_processing_llama4.py",
        "get_factors",
        "get_max_res_without_distortion",
        "find_supported_resolutions",
        "get_best_fit",
        torch=torch,
        math=math,
        lru_cache=lambda maxsize: lambda function: function,
        SizeDict=object,
        defaultdict=defaultdict,
    )
    rng = random.Random(4)
    for tile_size, max_tiles in ((336, 16), (64, 4), (48, 9)):
        square = SimpleNamespace(height=tile_size, width=tile_size)
        canvases = torch.tensor(theirs["find_supported_resolutions"](max_tiles, square))
        for _ in range(300):
            height, width = (round(math.exp(rng.uniform(0, 8.5))) for _ in range(2))
            canvas = theirs["get_best_fit"]((height, width), canvases).tolist()
            rows, cols = choose_canvas(height, width, tile_size, max_tiles)
            assert [rows * tile_size, cols * tile_size] == canvas, (height, width)
            limit = [
                min(max(side, tile_size), most) for side, most in zip((height, width), canvas, strict=True)
            ]
            resized = theirs["get_max_res_without_distortion"]((height, width), limit)
            assert resized_size(height, width, rows, cols, tile_size) == tuple(
                max(side, 1) for side in resized
            )


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2}[mode]
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode)


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def test_tiles_are_the_picture_row_by_row_then_squeezed() -> None:
    image = noise(24, 13)  # on a canvas of 2 x 3 tiles of 8 pixels, three black rows at the bottom
    cut = cut_tiles(image, tile_size=8, max_tiles=6)
    assert (cut.rows, cut.cols) == (2, 3)
    canvas = torch.zeros(3, 16, 24, dtype=torch.uint8)
    canvas[:, :13] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for index in range(6):
        top, left = 8 * (index // 3), 8 * (index % 3)
        assert torch.equal(cut.tiles[index], canvas[:, top : top + 8, left : left + 8])
    squeezed = np.array(image.resize((8, 8), Image.Resampling.BILINEAR))
    assert torch.equal(cut.tiles[6], torch.from_numpy(squeezed).permute(2, 0, 1))


def test_a_tile_sized_picture_is_kept_to_the_pixel() -> None:
    image = noise(64, 64)
    cut = cut_tiles(image, tile_size=64, max_tiles=4)
    assert torch.equal(cut.tiles, torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = Image.fromarray(np.tile(np.array([[0], [255]], np.uint8), (32, 64))).convert("RGB")
    tile = cut_tiles(stripes, tile_size=8, max_tiles=1).tiles
    assert 100 < tile.min() <= tile.max() < 155


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the picture rotated by 90 degrees clockwise
    image = noise(6, 4)
    loaded = load_image(encoded(image, exif=exif))
    assert loaded.size == (4, 6)
    assert np.array_equal(np.array(loaded), np.rot90(np.array(image), -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_put_on_white(mode: str) -> None:
    image = noise(9, 5, mode)
    image.putalpha(Image.linear_gradient("L").resize((9, 5)))
    rgba = np.array(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(np.array(load_image(encoded(image))) - expected).max() <= 1
    assert load_image(encoded(image)).mode == "RGB"


def test_palette_transparency_is_put_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])
    loaded = load_image(encoded(image, transparency=0))
    assert [loaded.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (0, 0, 200)]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.array([[0, 0x80FF, 0xFFFF]], np.uint16))
    loaded = load_image(encoded(grey))
    assert [loaded.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(file_format: str) -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    data = encoded(red, file_format, save_all=True, append_images=[blue], lossless=True)
    assert load_image(data).getpixel((4, 4)) == (255, 0, 0)


def test_a_path_and_its_bytes_are_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    noise(7, 5).save(path)
    assert np.array_equal(np.array(load_image(path)), np.array(load_image(path.read_bytes())))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8])
def test_truncated_files_are_refused_by_name(tmp_path: Path, file_format: str, share: float) -> None:
    data = encoded(noise(64, 64), file_format)
    path = tmp_path / "picture"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"picture: cannot read this image: .+"):
        load_image(path)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="image: 0 x 5 pixels"):
        load_image(Image.new("RGB", (0, 5)))


def test_pixels_without_a_known_range_are_refused() -> None:
    with pytest.raises(ImageError, match="pixels of type F have no known range"):
        load_image(Image.new("F", (2, 2)))


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nothing\.png: cannot read this image: .*No such file"):
        load_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="image of 33 bytes: cannot read this image"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_with_the_numbers() -> None:
    data = encoded(Image.new("1", (2000, 1000)))
    assert len(data) < 1000
    with pytest.raises(ImageError, match="2000 x 1000 = 2000000 pixels, the limit is 1999999"):
        load_image(data, max_pixels=1_999_999)
    assert load_image(data, max_pixels=2_000_000).size == (2000, 1000)
    for side in (12_000, 20_000):
        with pytest.raises(ImageError, match="89000000"):
            load_image(encoded(Image.new("1", (side, side))))
