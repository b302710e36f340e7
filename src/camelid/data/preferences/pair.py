"""A conversation with two answers, one preferred; and files of such pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.core.errors import DataError, InputError
from camelid.core.messages import Message
from camelid.inputs import parse_messages

__all__ = ["PreferencePair", "read_pairs"]

ROW_RULES = (
    "a row needs `messages` with `chosen` and `rejected` answers, as text or as the assistant's message; or `chosen` "
    "and `rejected` as whole conversations that differ in their last message alone"
)


@dataclass(frozen=True)
class PreferencePair:
    """What came before, and the assistant's answers. InputError for answers of others, or two that are the same."""

    messages: tuple[Message, ...]
    chosen: Message
    rejected: Message

    def __post_init__(self) -> None:
        roles = [self.chosen.role, self.rejected.role]
        if roles != ["assistant", "assistant"]:
            raise InputError(f"preferences are between answers of the assistant, not of {roles}")
        if not self.messages:
            raise InputError("a pair of answers needs a message before it")
        if self.chosen == self.rejected:
            raise InputError(f"both answers of a pair are {self.chosen.text!r:.80}")


def read_pairs(path: Path) -> list[PreferencePair]:
    """All pairs of a .jsonl file; relative pictures start at its folder. DataError names the first bad line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise DataError(f"expected an object, got {type(row).__name__}")
            pairs.append(_pair(row, path.parent))
        except (json.JSONDecodeError, InputError, DataError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    if not pairs:
        raise DataError(f"{path}: no pairs in it")
    return pairs


def _pair(row: Mapping[str, Any], folder: Path) -> PreferencePair:
    if not {"chosen", "rejected"} <= row.keys():
        raise DataError(f"{ROW_RULES}; this one has {sorted(row) or 'nothing'}")
    if "messages" in row:
        before = tuple(parse_messages(row["messages"], base_dir=folder))
        return PreferencePair(before, *(_answer(row[name], folder) for name in ("chosen", "rejected")))
    chosen, rejected = (_conversation(row[name], folder) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise DataError(f"{ROW_RULES}; these differ before")
    return PreferencePair(tuple(chosen[:-1]), chosen[-1], rejected[-1])


def _answer(value: Any, folder: Path) -> Message:
    if isinstance(value, str):
        if not value.strip():
            raise DataError("an answer must not be empty")
        return Message.of("assistant", value)
    (message,) = parse_messages([value], base_dir=folder)
    return message


def _conversation(value: Any, folder: Path) -> Sequence[Message]:
    if not isinstance(value, list) or len(value) < 2:
        raise DataError(ROW_RULES)
    return parse_messages(value, base_dir=folder)
