"""One row of somebody's data, as JSON or as table columns, to an example."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from camelid.core.errors import DataError
from camelid.core.messages import ImagePart, Message, TextPart
from camelid.data.example import Conversation, Document, Example
from camelid.inputs import parse_messages

__all__ = ["COLUMNS", "COLUMN_RULES", "example_from_row"]

COLUMNS = frozenset({"messages", "parts", "image", "question", "answer", "caption", "text"})

COLUMN_RULES = (
    "a row needs `messages` (or the same as JSON text), or `parts`, or `image` with `question` and `answer`, "
    "or `image` with `caption`, or `text`"
)


def example_from_row(row: Mapping[str, Any], folder: Path) -> Example:
    """The example in a row; raises DataError or InputError where there is none.

    `messages` is chat in the JSON form of `parse_messages`; `parts` is the `content` list of such a message,
    read as one document; `image` is encoded bytes, a path, or a mapping with `bytes` and `path` as Hugging
    Face writes it. Relative paths start at `folder`.
    """
    present = {name: value for name, value in row.items() if value is not None}
    if "messages" in present:
        return Conversation(tuple(_messages(present["messages"], folder)))
    if "parts" in present:
        (message,) = _messages([{"role": "user", "content": present["parts"]}], folder)
        return Document(message.parts)
    if "image" in present and {"question", "answer"} <= present.keys():
        question = Message.of("user", _image(present["image"], folder), _text(present, "question"))
        return Conversation((question, Message.of("assistant", _text(present, "answer"))))
    if "image" in present and "caption" in present:
        return Document((_image(present["image"], folder), TextPart(_text(present, "caption"))))
    if "text" in present:
        return Document((TextPart(_text(present, "text")),))
    raise DataError(f"{COLUMN_RULES}; this one has {sorted(present) or 'nothing'}")


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"column {column!r} must hold text, got {value!r:.80}")
    return value


def _messages(value: Any, folder: Path) -> Sequence[Message]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(f"column 'messages' is not JSON: {error}") from error
    return parse_messages(value, base_dir=folder)


def _image(value: Any, folder: Path) -> ImagePart:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return ImagePart(value)
    if isinstance(value, str) and value:
        return ImagePart(folder / value)
    raise DataError(f"an image must be bytes, a path, or a mapping with `bytes` or `path`, got {value!r:.80}")
