"""What people and models say to each other: a role, a run of text, image and video parts, and calls of tools."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from camelid.core.errors import InputError

__all__ = [
    "Frame",
    "ImagePart",
    "Message",
    "Part",
    "Role",
    "TextPart",
    "ToolCall",
    "ToolDefinition",
    "VideoPart",
]

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


_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True)
class ToolCall:
    """What the assistant wants run. `arguments` is what JSON can say; raises InputError for anything else."""

    name: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        _check_tool_name(self.name)
        _check_json_object(self.arguments, f"the arguments of {self.name}")


@dataclass(frozen=True)
class ToolDefinition:
    """A tool that is offered to the model; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})

    def __post_init__(self) -> None:
        _check_tool_name(self.name)
        _check_json_object(self.parameters, f"the parameters of {self.name}")


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and what, in order. Calls follow the parts, and only the assistant makes any.

    What a tool answered is a message of the role `ipython`, one per call and in the order of the calls.
    """

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()

    @classmethod
    def of(cls, role: Role, *parts: Part | str, tool_calls: Sequence[ToolCall] = ()) -> Message:
        """A message from parts, where a plain string stands for a text part."""
        as_parts = tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
        return cls(role, as_parts, tuple(tool_calls))

    @property
    def text(self) -> str:
        """All text parts, joined; images and videos left out."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    def __post_init__(self) -> None:
        assert isinstance(self.parts, Sequence)
        if self.tool_calls and self.role != "assistant":
            raise InputError(f"only the assistant calls tools, not the role {self.role!r}")


def _check_tool_name(name: str) -> None:
    if not _TOOL_NAME.fullmatch(name):
        raise InputError(f"a tool's name is 1 to 128 of A-Z, a-z, 0-9, _, . and -, not {name[:140]!r}")


def _check_json_object(value: object, place: str) -> None:
    if not isinstance(value, Mapping):
        raise InputError(f"{place}: expected a JSON object, got {type(value).__name__}")
    _check_json(value, place)


def _check_json(value: object, place: str) -> None:
    """Only what survives a round trip through JSON: no tuples, no NaN, no keys but strings."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"{place}: the key {key!r} is no string")
            _check_json(item, f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json(item, f"{place}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}: JSON has no {value}")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise InputError(f"{place}: JSON has no {type(value).__name__}")
