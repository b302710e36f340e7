"""What people and models say to each other: a role and a run of text, image and video parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

__all__ = ["Frame", "ImagePart", "Message", "Part", "Role", "TextPart", "VideoPart"]

Role = Literal["system", "user", "assistant", "ipython"]


@dataclass(frozen=True)
class TextPart:
    """A run of plain text. Text that looks like a special token stays text."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """One picture: a file, its encoded bytes, or pixels already decoded."""

    source: Path | bytes | Image.Image


@dataclass(frozen=True)
class Frame:
    """One still of a video and its time in seconds from the start."""

    image: Image.Image
    time_seconds: float


@dataclass(frozen=True)
class VideoPart:
    """One clip: a file, its encoded bytes, or frames already decoded."""

    source: Path | bytes | tuple[Frame, ...]


Part = TextPart | ImagePart | VideoPart


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and what, in order."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, *parts: Part | str) -> Message:
        """A message from parts, where a plain string stands for a text part."""
        return cls(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))

    @property
    def text(self) -> str:
        """All text parts, joined; images and videos left out."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    def __post_init__(self) -> None:
        assert isinstance(self.parts, Sequence)
