"""The JSON form of messages, as `camelid generate` reads it and as JSONL data holds it.

[{"role": "user", "content": "text"},
 {"role": "user", "content": [{"type": "text", "text": "..."}, {"type": "image", "path": "..."},
                              {"type": "video", "path": "..."}]}]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from camelid.core.errors import InputError
from camelid.core.messages import ImagePart, Message, Part, Role, TextPart, VideoPart

__all__ = ["parse_messages"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Text(_Strict):
    type: Literal["text"]
    text: str


class _File(_Strict):
    type: Literal["image", "video"]
    path: str


class _Message(_Strict):
    role: Role
    content: str | list[Annotated[_Text | _File, Field(discriminator="type")]]


_MESSAGES = TypeAdapter(Annotated[list[_Message], Field(min_length=1)])


def parse_messages(value: Any, base_dir: Path) -> list[Message]:
    """Messages from decoded JSON; relative paths are taken from `base_dir`.

    Raises InputError that names each offending field.
    """
    try:
        parsed = _MESSAGES.validate_python(value)
    except ValidationError as error:
        problems = "; ".join(f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors())
        raise InputError(f"messages: {problems}") from error
    return [Message(message.role, _parts(message.content, base_dir)) for message in parsed]


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "the whole"


def _parts(content: str | list[_Text | _File], base_dir: Path) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(item, base_dir) for item in content)


def _part(item: _Text | _File, base_dir: Path) -> Part:
    if isinstance(item, _Text):
        return TextPart(item.text)
    path = base_dir / item.path
    return ImagePart(path) if item.type == "image" else VideoPart(path)
