"""Clips written by PyAV and Pillow, read back: which frames, when, and what is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from camelid.core.errors import VideoError
from camelid.core.messages import Frame
from camelid.inputs import load_frames
from camelid.inputs.video_frames import choose_frames

CONTAINERS = [
    ("mp4", "mpeg4"),
    ("mp4", "libx264"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("avi", "libx264"),
]


def grey(index: int) -> int:
    """Frame `index` of a test film is this grey all over."""
    return 10 + 3 * index


def film(container: str, codec: str, num_frames: int, width: int = 32, left: int | None = None) -> bytes:
    """Eight frames a second; the left half may have a grey of its own."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = width, 32, "yuv420p"
        for index in range(num_frames):
            pixels = np.full((32, width, 3), grey(index), np.uint8)
            if left is not None:
                pixels[:, : width // 2] = left
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


def animation(file_format: str, durations_ms: list[int]) -> bytes:
    stills = [Image.new("RGB", (16, 16), (grey(index),) * 3) for index in range(len(durations_ms))]
    options = {"lossless": True} if file_format == "WEBP" else {}
    file = io.BytesIO()
    stills[0].save(
        file, file_format, save_all=True, append_images=stills[1:], duration=durations_ms, loop=0, **options
    )
    return file.getvalue()


def greys(frames: tuple[Frame, ...]) -> list[float]:
    return [float(np.array(frame.image).mean()) for frame in frames]


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_short_films_are_spread_evenly(container: str, codec: str) -> None:
    frames = load_frames(film(container, codec, num_frames=24), max_frames=6)
    assert [frame.time_seconds for frame in frames] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=0.01)
    assert greys(frames) == pytest.approx([grey(index) for index in (0, 4, 8, 12, 16, 20)], abs=4)
    assert all(frame.image.mode == "RGB" and frame.image.size == (32, 32) for frame in frames)


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_longer_films_are_sampled_at_the_rate(container: str, codec: str) -> None:
    frames = load_frames(film(container, codec, num_frames=40), frames_per_second=1.0, max_frames=8)
    assert [frame.time_seconds for frame in frames] == pytest.approx([0, 1, 2, 3, 4], abs=0.01)
    assert greys(frames) == pytest.approx([grey(index) for index in (0, 8, 16, 24, 32)], abs=4)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_animations_know_their_times(file_format: str) -> None:
    frames = load_frames(animation(file_format, [100, 300, 200, 400, 50, 60]), max_frames=3)
    assert [frame.time_seconds for frame in frames] == pytest.approx([0, 0.4, 1.0])
    assert greys(frames) == [grey(0), grey(2), grey(4)]
    assert all(frame.image.mode == "RGB" for frame in frames)


def test_transparent_animations_stand_on_white() -> None:
    stills = [Image.new("RGBA", (8, 8), (0, 0, 0, alpha)) for alpha in (0, 255)]
    file = io.BytesIO()
    stills[0].save(file, "WEBP", save_all=True, append_images=stills[1:], duration=100, lossless=True)
    assert greys(load_frames(file.getvalue())) == [255, 0]


def test_a_path_and_its_bytes_are_the_same_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(film("mp4", "mpeg4", 5))
    assert greys(load_frames(path)) == greys(load_frames(path.read_bytes()))


def test_a_single_frame_is_a_clip() -> None:
    assert len(load_frames(film("mp4", "mpeg4", 1))) == 1
    assert len(load_frames(animation("GIF", [100]))) == 1


def test_films_are_shown_upright() -> None:
    data = film("mp4", "mpeg4", 2, width=64, left=200)
    identity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    clockwise = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    track = data.index(b"tkhd")
    assert identity in data[track:]
    turned = data[:track] + data[track:].replace(identity, clockwise, 1)
    lying, standing = (np.array(load_frames(clip)[0].image).mean(axis=2) for clip in (data, turned))
    assert (lying.shape, standing.shape) == ((32, 64), (64, 32))
    assert lying[:, :24].min() > 150 > 50 > lying[:, 40:].max()
    assert standing[:24].min() > 150 > 50 > standing[40:].max()  # what was left is on top


def test_decoded_frames_are_kept_or_thinned_evenly() -> None:
    frames = tuple(Frame(Image.new("RGB", (4, 4)), index / 10) for index in range(10))
    assert load_frames(frames[:4], max_frames=4) == frames[:4]
    assert [frame.time_seconds for frame in load_frames(frames, max_frames=4)] == [0.0, 0.2, 0.5, 0.7]
    with pytest.raises(VideoError, match="at least one frame"):
        load_frames(())


@pytest.mark.parametrize(
    ("num_frames", "duration", "rate", "most", "expected"),
    [
        (240, 10.0, 1.0, 10, list(range(0, 240, 24))),  # as many as allowed, at the rate
        (240, 10.0, 1.0, 8, list(range(0, 240, 30))),  # one too many: evenly
        (240, 10.0, 0.5, 8, [0, 48, 96, 144, 192]),
        (240, 10.0, 0.05, 8, list(range(0, 240, 30))),  # the rate gives a single frame
        (72, 3.0, 1.0, 8, list(range(0, 72, 9))),  # short
        (3, 3.0, 1.0, 8, [0, 1, 2]),  # short, and few frames
        (2, 10.0, 1.0, 16, [0, 1]),  # a slide show: no frame twice
        (1, 0.0, 1.0, 8, [0]),
    ],
)
def test_which_frames_are_chosen(
    num_frames: int, duration: float, rate: float, most: int, expected: list[int]
) -> None:
    times = [duration * index / num_frames for index in range(num_frames)]
    assert choose_frames(times, duration, rate, most) == expected


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_truncated_films_are_refused(tmp_path: Path, container: str, codec: str, share: float) -> None:
    data = film(container, codec, 40)
    path = tmp_path / "clip"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VideoError, match=r"/clip: .+"):
        load_frames(path)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_animations_are_refused(file_format: str, share: float) -> None:
    data = animation(file_format, [100] * 20)
    with pytest.raises(VideoError, match=r"video of \d+ bytes: .+"):
        load_frames(data[: int(len(data) * share)])


def test_corrupt_films_are_refused() -> None:
    data = bytearray(film("mp4", "libx264", 24))
    start = data.index(b"mdat") + 4
    data[start : start + 600] = bytes(range(200)) * 3
    with pytest.raises(VideoError):
        load_frames(bytes(data))


@pytest.mark.parametrize(
    "data",
    [b"", b"no film", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", b"ffconcat version 1.0\nfile /etc/hostname\n"],
)
def test_what_is_no_film_is_refused(data: bytes) -> None:
    with pytest.raises(VideoError, match=f"video of {len(data)} bytes: cannot read this video"):
        load_frames(data)


def test_sound_alone_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream: Any = output.add_stream("aac", rate=16_000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16_000
        output.mux(stream.encode(sound))
        output.mux(stream.encode())
    with pytest.raises(VideoError, match="holds no video"):
        load_frames(file.getvalue())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"nothing\.mp4: cannot read this video: .*No such file"):
        load_frames(tmp_path / "nothing.mp4")
