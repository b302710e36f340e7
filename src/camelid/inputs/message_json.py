"""The JSON form of messages, as `camelid generate` reads it and as JSONL data holds it.

[{"role": "user", "content": "text"},
 {"role": "user", "content": [{"type": "text", "text": "..."}, {"type": "image", "path": "..."},
                              {"type": "video", "path": "..."}]},
 {"role": "assistant", "tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]},
 {"role": "ipython", "content": "what the tool answered"}]

`content` may be left out beside `tool_calls`. Results follow in the order of the calls, which is all that the
model ever sees of an id.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from camelid.core.errors import InputError
from camelid.core.messages import ImagePart, Message, Part, Role, TextPart, ToolCall, VideoPart

__all__ = ["parse_messages"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Text(_Strict):
    type: Literal["text"]
    text: str


class _File(_Strict):
    type: Literal["image", "video"]
    path: str


class _ToolCall(_Strict):
    name: str
    arguments: dict[str, Any]


class _Message(_Strict):
    role: Role
    content: str | list[Annotated[_Text | _File, Field(discriminator="type")]] | None = None
    tool_calls: Annotated[list[_ToolCall], Field(min_length=1)] | None = None


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
    return [_message(message, base_dir, index) for index, message in enumerate(parsed)]


def _message(message: _Message, base_dir: Path, index: int) -> Message:
    if message.content is None and message.tool_calls is None:
        raise InputError(f"messages: {index}.content: Field required, unless there are tool_calls")
    try:
        calls = tuple(ToolCall(call.name, call.arguments) for call in message.tool_calls or ())
        return Message(message.role, _parts(message.content, base_dir), calls)
    except InputError as error:
        raise InputError(f"messages: {index}.tool_calls: {error}") from error


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "the whole"


def _parts(content: str | list[_Text | _File] | None, base_dir: Path) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(item, base_dir) for item in content)


def _part(item: _Text | _File, base_dir: Path) -> Part:
    if isinstance(item, _Text):
        return TextPart(item.text)
    path = base_dir / item.path
    return ImagePart(path) if item.type == "image" else VideoPart(path)
