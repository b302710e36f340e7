"""One question about something the model has never seen, and what it said: for views and reports."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageSequence

from camelid.core import Frame, ImagePart, MessageCompleter, SamplingParams, VideoPart
from camelid.data.questions.problem import Problem
from camelid.eval.judge import is_right
from camelid.inputs import load_frames, load_image

__all__ = ["GalleryItem", "ask"]

GREEDY = SamplingParams(max_tokens=48)
CLIP_FRAME_MS = 250


@dataclass(frozen=True)
class GalleryItem:
    """A question, its pictures and clips, the model's answer and the truth.

    Each of `visuals` is an encoded file: a PNG for a picture, an animated WebP for a clip.
    """

    kind: str
    question: str
    visuals: tuple[bytes, ...] = field(repr=False)
    answer: str
    truth: str
    is_right: bool

    def images(self) -> list[Image.Image]:
        """All stills in order, as RGB pixels."""
        return [still for visual in self.visuals for still in _stills(visual)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, files as base64."""
        visuals = [base64.b64encode(visual).decode() for visual in self.visuals]
        return dataclasses.asdict(self) | {"visuals": visuals}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GalleryItem:
        """The inverse of `to_dict`."""
        return cls(**values | {"visuals": tuple(map(base64.b64decode, values["visuals"]))})


def ask(completer: MessageCompleter, problem: Problem, sampling: SamplingParams = GREEDY) -> GalleryItem:
    """Puts a problem to a model."""
    answer = completer.complete(problem.messages, sampling).text.strip()
    question = " ".join(message.text.strip() for message in problem.messages if message.role == "user")
    return GalleryItem(
        kind=problem.kind,
        question=question,
        visuals=tuple(_visuals(problem)),
        answer=answer,
        truth=problem.answer,
        is_right=is_right(answer, problem.answer),
    )


def _visuals(problem: Problem) -> Iterator[bytes]:
    for message in problem.messages:
        for part in message.parts:
            if isinstance(part, ImagePart):
                yield _encoded([load_image(part.source)])
            elif isinstance(part, VideoPart):
                yield _encoded(_pictures(load_frames(part.source)))


def _pictures(frames: Iterable[Frame]) -> list[Image.Image]:
    return [frame.image for frame in frames]


def _encoded(images: list[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    if len(images) == 1:
        images[0].save(buffer, "PNG")
    else:
        images[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=images[1:],
            duration=CLIP_FRAME_MS,
            loop=0,
            quality=85,
        )
    return buffer.getvalue()


def _stills(visual: bytes) -> list[Image.Image]:
    with Image.open(io.BytesIO(visual)) as image:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
