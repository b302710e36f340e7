"""Files that end too soon, lie about themselves or ask for more memory than there is, still and moving."""

from __future__ import annotations

import io
import re
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageFile

from camelid.core.errors import ImageError, VideoError
from camelid.inputs import load_frames, load_image, video_frames
from camelid.inputs.strict_pillow import refusing_truncated

pytestmark = pytest.mark.filterwarnings("ignore")  # what Pillow warns of is judged by what we do then


def still(seed: int, size: int = 48) -> Image.Image:
    """Noise in which every lost byte shows."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


STILLS = {
    "PNG": saved(still(0), "PNG"),
    "JPEG": saved(still(0), "JPEG"),
    "progressive JPEG": saved(still(0), "JPEG", progressive=True),
    "lossy WebP": saved(still(0), "WEBP"),
    "lossless WebP": saved(still(0), "WEBP", lossless=True),
    "GIF": saved(still(0).quantize(64), "GIF"),
    "BMP": saved(still(0), "BMP"),
    "TIFF": saved(still(0), "TIFF", compression="tiff_lzw"),
    "raw TIFF": saved(still(0), "TIFF"),
    "AVIF": saved(still(0), "AVIF"),
    "PPM": saved(still(0), "PPM"),
}
ANIMATIONS = {
    name: saved(still(0), name, save_all=True, append_images=[still(1), still(2)], duration=100)
    for name in ("PNG", "GIF", "WEBP")
}


@pytest.fixture(params=[False, True], ids=["Pillow strict", "Pillow lenient"])
def switch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What somebody else has told Pillow, for the whole process; Meta's image code says True when imported."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", request.param)
    return bool(request.param)


def refusal(read: Callable[[bytes], object], data: bytes) -> str:
    """Why it was not read; empty if it was."""
    try:
        read(data)
    except (ImageError, VideoError) as error:
        return str(error)
    return ""


def shown(data: bytes) -> list[tuple[float, bytes]]:
    return [(frame.time_seconds, frame.image.tobytes()) for frame in load_frames(data)]


def pixels(data: bytes) -> bytes:
    return load_image(data).tobytes()


def accepted_cuts(read: Callable[[bytes], object], data: bytes, cuts: list[int]) -> list[int]:
    """Those that are not refused by name; what is read then must be all that there was."""
    whole = read(data)
    refusals = {cut: refusal(read, data[:cut]) for cut in cuts}
    accepted = [cut for cut, reason in refusals.items() if not reason]
    assert all(f" of {cut} bytes: " in reason for cut, reason in refusals.items() if reason)
    assert [cut for cut in accepted if read(data[:cut]) != whole] == []
    return accepted


@pytest.mark.parametrize("kind", STILLS)
def test_every_cut_is_refused_unless_all_pixels_are_there(kind: str, switch: bool) -> None:
    """PNG may lack its checksum and end mark, 22 bytes, and GIF its two."""
    data = STILLS[kind]
    cuts = [*range(0, len(data), len(data) // 100), *range(len(data) - 30, len(data))]
    assert all(cut >= len(data) - 22 for cut in accepted_cuts(pixels, data, cuts))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is switch


@pytest.mark.parametrize("kind", ANIMATIONS)
def test_every_cut_of_an_animation_is_refused_unless_all_frames_are_there(kind: str, switch: bool) -> None:
    data = ANIMATIONS[kind]
    cuts = [*range(0, len(data), len(data) // 50), *range(len(data) - 30, len(data))]
    assert all(cut >= len(data) - 22 for cut in accepted_cuts(shown, data, cuts))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is switch


@pytest.mark.parametrize("switch", [True], indirect=True)
def test_a_picture_opened_elsewhere_is_refused_too(switch: bool) -> None:
    half = STILLS["JPEG"][: len(STILLS["JPEG"]) // 2]
    with pytest.raises(ImageError, match="truncated"):
        load_image(Image.open(io.BytesIO(half)))


@pytest.mark.parametrize("switch", [True], indirect=True)
def test_pillow_goes_on_obeying_other_threads(switch: bool) -> None:
    """While one thread decodes for us, another one reads half a picture, as it has asked for."""
    half = STILLS["PNG"][: len(STILLS["PNG"]) // 2]
    inside, done = threading.Event(), threading.Event()

    def decode() -> None:
        with refusing_truncated():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=decode)
    thread.start()
    assert inside.wait(10)
    try:
        assert ImageFile.LOAD_TRUNCATED_IMAGES is True
        Image.open(io.BytesIO(half)).load()
    finally:
        done.set()
        thread.join()
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(half)).load()


def test_refusing_is_no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread turns the switch on and off all the time."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    halves = [data[: len(data) // 2] for kind, data in STILLS.items() if kind in ("PNG", "JPEG", "BMP")]
    is_over = threading.Event()

    def turn() -> None:
        while not is_over.is_set():
            ImageFile.LOAD_TRUNCATED_IMAGES = not ImageFile.LOAD_TRUNCATED_IMAGES

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        assert all(refusal(pixels, half) for _ in range(100) for half in halves)
    finally:
        is_over.set()
        thread.join()


def film(path: Path, container: str, codec: str, num_frames: int = 24, **options: str) -> bytes:
    with av.open(path, "w", format=container, options=options) as output:
        stream: Any = output.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        output.start_encoding()
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.array(still(index)), format="rgb24")
            output.mux(stream.encode(frame))
        if num_frames:
            output.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "libx264", {}),
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("mp4", "mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
        ("webm", "libvpx-vp9", {}),
        ("matroska", "libx264", {}),
        ("avi", "mpeg4", {}),
    ],
)
def test_every_cut_of_a_film_is_refused_unless_all_frames_are_there(
    tmp_path: Path, container: str, codec: str, options: dict[str, str]
) -> None:
    """An mp4 in fragments is a film of its own after each of them, so no cut is made there."""
    data = film(tmp_path / "film", container, codec, **options)
    cuts = [*range(0, len(data), len(data) // 40), *range(len(data) - 2000, len(data), 111)]
    starts = {mark.start() - 4 for mark in re.finditer(b"moof|mfra", data)}
    assert accepted_cuts(shown, data, [cut for cut in cuts if not starts & {cut - 2, cut - 1, cut}]) == []


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey picture whose pixels are not there; the chunks come before them."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = (b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*item) for item in body)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def gif(width: int, height: int, *frames: tuple[int, int]) -> bytes:
    """Frames of the given sizes, of which only the first pixel is there."""
    stills = b"".join(
        b"\x21\xf9\x04\0\x0a\0\0\0" + b"\x2c\0\0\0\0" + struct.pack("<HH", *size) + b"\0\x02\x02\x44\x01\0"
        for size in frames
    )
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0\xff\xff\xff" + stills + b"\x3b"


def patched(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """The bytes `offset` after the first `mark` replaced."""
    start = data.index(mark) + offset
    return data[:start] + value + data[start + len(value) :]


BOMBS = {
    "PNG": (png(60_000, 60_000), 3_600_000_000),
    "GIF": (gif(65_535, 65_535, (1, 1)), 4_294_836_225),
    "GIF, a frame larger than the canvas": (gif(1, 1, (65_535, 65_535)), 4_294_836_225),
    "JPEG": (patched(STILLS["JPEG"], b"\xff\xc0", 5, struct.pack(">HH", 65_000, 64_000)), 4_160_000_000),
    "BMP": (patched(STILLS["BMP"], b"BM", 18, struct.pack("<II", 50_000, 50_000)), 2_500_000_000),
    "WebP": (patched(ANIMATIONS["WEBP"], b"VP8X", 12, b"\x7f\x3e\0\x7f\x3e\0"), 256_000_000),
    "PPM": (b"P6 60000 60000 255\n", 3_600_000_000),
    "PNG, just over": (png(8900, 10_001), 89_008_900),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_by_their_header(tmp_path: Path, kind: str) -> None:
    data, num_pixels = BOMBS[kind]
    path = tmp_path / "bomb"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=f"/bomb: .*{num_pixels}.*pixels"):
        load_image(path)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WebP", "PNG, just over"])
def test_moving_bombs_are_refused_by_their_header(kind: str) -> None:
    data, num_pixels = BOMBS[kind]
    with pytest.raises(VideoError, match=f"video of {len(data)} bytes: .*{num_pixels}.*pixels"):
        load_frames(data)


MEGABYTES = bytes(70_000_000)
TEXT_BOMBS = {
    "zTXt": [(b"zTXt", b"a\0\0" + zlib.compress(MEGABYTES))],
    "iTXt": [(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(MEGABYTES))],
    "iCCP": [(b"iCCP", b"a\0\0" + zlib.compress(MEGABYTES))],
    "many zTXt": [(b"zTXt", b"%d\0\0" % key + zlib.compress(MEGABYTES[:1_000_000])) for key in range(70)],
}


@pytest.mark.parametrize("kind", TEXT_BOMBS)
def test_text_that_unpacks_to_megabytes_is_refused(kind: str) -> None:
    data = png(1, 1, *TEXT_BOMBS[kind])
    assert load_image(png(1, 1, (b"zTXt", b"a\0\0" + zlib.compress(b"text")))).size == (1, 1)
    assert len(data) < 100_000
    with pytest.raises(ImageError, match=f"image of {len(data)} bytes: .*(too large|Too much memory)"):
        load_image(data)


def test_a_small_file_of_many_large_frames_is_refused() -> None:
    data = gif(9000, 8000, *[(1, 1)] * 60)
    with pytest.raises(
        VideoError, match="60 frames of 9000 x 8000 = 4320000000 pixels, the limit is 4000000000"
    ):
        load_frames(data)


def test_a_frame_that_outgrows_its_canvas_is_refused() -> None:
    with pytest.raises(VideoError, match="pixels"):
        load_frames(gif(8, 8, (1, 1), (10_000, 9000)))


@pytest.mark.parametrize(
    ("num_frames", "reason"), [(2**31 - 1, "2147483647 frames"), (9, "Truncated File Read")]
)
def test_frames_that_are_not_there_are_refused(num_frames: int, reason: str) -> None:
    data = ANIMATIONS["PNG"]
    control = chunk(b"acTL", struct.pack(">II", num_frames, 0))
    with pytest.raises(VideoError, match=reason):
        load_frames(patched(data, b"acTL", -4, control))


def test_an_opened_picture_is_checked_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    path.write_bytes(STILLS["PNG"][:3000])
    with Image.open(path) as image, pytest.raises(ImageError, match=r"half\.png: cannot read this image"):
        load_image(image)
    with pytest.raises(ImageError, match="image: 30 x 20 = 600 pixels, the limit is 599"):
        load_image(Image.new("RGB", (30, 20)), max_pixels=599)


def test_a_film_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"holds no (video|frames)"):
        load_frames(film(tmp_path / "film", "mp4", "mpeg4", num_frames=0))


@pytest.mark.parametrize("factor", [0.1, 100])
def test_an_mp4_is_as_long_as_its_frames_whatever_it_says(tmp_path: Path, factor: float) -> None:
    data = lying = film(tmp_path / "film", "mp4", "mpeg4")
    for mark, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        start = data.index(mark) + offset
        (duration,) = struct.unpack(">I", data[start : start + 4])
        lying = patched(lying, mark, offset, struct.pack(">I", int(duration * factor)))
    assert lying != data
    assert shown(lying) == shown(data)


def test_a_film_that_says_it_is_longer_is_refused(tmp_path: Path) -> None:
    data = film(tmp_path / "film", "matroska", "libx264")
    lying = patched(data, b"\x44\x89\x88", 3, struct.pack(">d", 300_000))
    with pytest.raises(VideoError, match=r"truncated: [23]\.\d\d of 300\.00 seconds"):
        load_frames(lying)


def test_of_two_sizes_the_picture_s_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = film(tmp_path / "film", "mp4", "libx264")
    for lie in (65_535, 16):
        lying = patched(data, b"avc1\0", 28, struct.pack(">HH", lie, lie))
        assert shown(lying) == shown(data)
    monkeypatch.setattr(video_frames, "MAX_IMAGE_PIXELS", 48 * 48 - 1)
    with pytest.raises(VideoError, match="48 x 48 = 2304 pixels, the limit is 2303"):
        load_frames(lying)
    monkeypatch.setattr(video_frames, "check_pixels", lambda *_: None)
    with pytest.raises(VideoError, match="cannot read this video"):  # the decoder has the limit too
        load_frames(lying)


@pytest.mark.parametrize("read", [load_image, load_frames])
def test_noise_is_refused(read: Callable[[bytes], object]) -> None:
    """Right at the start, and wrong from there on."""
    rng = np.random.default_rng(0)
    for data in [*STILLS.values(), *ANIMATIONS.values()]:
        assert " of 416 bytes: " in refusal(read, data[:16] + rng.bytes(400))
