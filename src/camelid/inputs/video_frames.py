"""One clip becomes a few stills with their times: films by PyAV, animated pictures by Pillow."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image

from camelid.core.errors import ImageError, VideoError
from camelid.core.messages import Frame
from camelid.inputs.container_ends import announced_end
from camelid.inputs.image_tiling import MAX_IMAGE_PIXELS, check_pixels, load_image
from camelid.inputs.strict_pillow import refusing_truncated

__all__ = ["MAX_ANIMATION_PIXELS", "SHORT_CLIP_SECONDS", "choose_frames", "load_frames"]

# All frames of an animated picture together: about a minute of decoding. A file of some kilobytes can ask for days.
MAX_ANIMATION_PIXELS = 4_000_000_000

# One still a second is a rate for clips of many seconds; up to here it would miss the motion.
SHORT_CLIP_SECONDS = 4.0

_ANIMATED_FORMATS = ("GIF", "WEBP", "PNG")
# Named, because playlists and scripts among libav's formats may point to other files and hosts.
_FILM_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
_DEFAULT_ANIMATION_SECONDS = 0.1  # what browsers take for a still without a duration


@refusing_truncated()
def load_frames(
    source: Path | bytes | tuple[Frame, ...], frames_per_second: float = 1.0, max_frames: int = 8
) -> tuple[Frame, ...]:
    """At most `max_frames` RGB stills of a clip, in order, by the rule of `choose_frames`.

    Reads mp4, webm and avi films and animated WebP, GIF and PNG. Frames already decoded are kept, and thinned
    out evenly if there are too many. Raises VideoError with the file's name for what is missing, corrupt,
    truncated, empty or of an unknown format.
    """
    assert frames_per_second > 0 and max_frames > 0
    if isinstance(source, tuple):
        if not source:
            raise VideoError("a video needs at least one frame, got none")
        return tuple(source[index] for index in _spread(len(source), max_frames))
    name = str(source) if isinstance(source, Path) else f"video of {len(source)} bytes"
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            start = file.read(12)
            file.seek(0)
            is_webp = start[:4] == b"RIFF" and start[8:] == b"WEBP"
            is_animation = is_webp or start.startswith((b"GIF8", b"\x89PNG"))
            read = _read_animation if is_animation else _read_film
            return read(file, name, frames_per_second, max_frames)
    except (VideoError, ImageError) as error:
        raise VideoError(str(error)) from error
    except Exception as error:  # decoders raise whatever their format makes them raise
        raise VideoError(f"{name}: cannot read this video: {error}") from error


def choose_frames(
    times_seconds: Sequence[float], duration_seconds: float, frames_per_second: float, max_frames: int
) -> list[int]:
    """Which of the frames shown from `times_seconds` on to take, as ascending indices.

    At the given rate, unless that gives fewer than 2 or more than `max_frames` frames or the clip is shorter
    than SHORT_CLIP_SECONDS: then `max_frames` of them (or all there are), evenly.
    """
    num_at_rate = int(duration_seconds * frames_per_second - 1e-6) + 1
    if duration_seconds < SHORT_CLIP_SECONDS or not 2 <= num_at_rate <= max_frames:
        return _spread(len(times_seconds), max_frames)
    start = times_seconds[0]
    moments = (start + step / frames_per_second for step in range(num_at_rate))
    shown = (max(0, bisect_right(times_seconds, moment + 1e-6) - 1) for moment in moments)
    return sorted(set(shown))


def _spread(num_frames: int, max_frames: int) -> list[int]:
    """Every frame if they are few, else `max_frames` evenly, the first included."""
    count = min(num_frames, max_frames)
    return [step * num_frames // count for step in range(count)]


def _read_animation(
    file: io.BytesIO | io.BufferedReader, name: str, rate: float, max_frames: int
) -> tuple[Frame, ...]:
    with Image.open(file, formats=_ANIMATED_FORMATS) as image:
        check_pixels(image.width, image.height, MAX_IMAGE_PIXELS, name)
        num_frames = getattr(image, "n_frames", 1)
        num_pixels = image.width * image.height * num_frames
        if num_pixels > MAX_ANIMATION_PIXELS:
            frames_of = f"{num_frames} frames of {image.width} x {image.height}"
            raise VideoError(
                f"{name}: {frames_of} = {num_pixels} pixels, the limit is {MAX_ANIMATION_PIXELS}"
            )
        times, end = [], 0.0
        for index in range(num_frames):
            image.seek(index)
            check_pixels(image.width, image.height, MAX_IMAGE_PIXELS, name)  # a frame may enlarge a GIF
            image.load()  # WebP knows a frame's duration only now
            times.append(end)
            end += float(image.info.get("duration", 0)) / 1000 or _DEFAULT_ANIMATION_SECONDS
        frames = []
        for index in choose_frames(times, end, rate, max_frames):
            image.seek(index)
            frames.append(Frame(load_image(image.copy()), times[index]))
        return tuple(frames)


def _read_film(
    file: io.BytesIO | io.BufferedReader, name: str, rate: float, max_frames: int
) -> tuple[Frame, ...]:
    times, duration = _film_times(file, name)
    wanted = choose_frames(times, duration, rate, max_frames)
    file.seek(0)
    frames: list[Frame] = []
    with av.open(file, "r", options={"format_whitelist": _FILM_FORMATS}) as container:
        stream = container.streams.video[0]
        # The picture's own size may be another than the container's, which `_film_times` has checked.
        limits = {"err_detect": "explode", "max_pixels": str(MAX_IMAGE_PIXELS)}
        stream.codec_context.options = limits
        for index, picture in enumerate(container.decode(stream)):
            # A packet may hold a picture that is never shown, so the picture's own time counts; AVI has none.
            is_timed = picture.time is not None and container.format.name != "avi"
            time = picture.time if is_timed else times[min(index, len(times) - 1)]
            if time > times[wanted[len(frames)]] - 1e-6:
                upright = Image.fromarray(picture.to_ndarray(format="rgb24"))
                if picture.rotation:
                    upright = upright.rotate(picture.rotation, expand=True)
                frames.append(Frame(upright, time - times[0]))
                if len(frames) == len(wanted):
                    return tuple(frames)
    raise VideoError(f"{name}: only {len(frames)} of {len(wanted)} chosen frames could be decoded")


def _film_times(file: io.BytesIO | io.BufferedReader, name: str) -> tuple[list[float], float]:
    """The times in seconds at which frames are shown, ascending, and the clip's length; decodes nothing."""
    times: list[float] = []
    end = 0.0
    announced, there = announced_end(file), file.seek(0, io.SEEK_END)
    if announced > there:
        raise VideoError(f"{name}: truncated: {there} of {announced} bytes are there")
    file.seek(0)
    with av.open(file, "r", options={"format_whitelist": _FILM_FORMATS}) as container:
        if not container.streams.video:
            raise VideoError(f"{name}: holds no video")
        stream = container.streams.video[0]
        check_pixels(stream.codec_context.width, stream.codec_context.height, MAX_IMAGE_PIXELS, name)
        announced_seconds = (container.duration or 0) / av.time_base
        first = (container.start_time or 0) / av.time_base
        for packet in container.demux():
            time = packet.pts if packet.pts is not None else packet.dts
            if packet.size == 0 or time is None:
                continue
            if packet.is_corrupt:
                raise VideoError(f"{name}: corrupt after {end:.2f} seconds")
            shown = float(time * packet.time_base)
            end = max(end, shown + float((packet.duration or 0) * packet.time_base))
            if packet.stream is stream:
                times.append(shown)
    if not times:
        raise VideoError(f"{name}: holds no frames")
    if end - first < announced_seconds - 0.25:
        raise VideoError(f"{name}: truncated: {end - first:.2f} of {announced_seconds:.2f} seconds are there")
    times.sort()
    return times, max(end - times[0], times[-1] - times[0])
