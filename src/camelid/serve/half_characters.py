"""Lone surrogates: JSON can spell half a character, and no text has one."""

from __future__ import annotations

from typing import Any

__all__ = ["check_characters"]


def check_characters(value: Any) -> None:
    """Raises ValueError if any text in a JSON value, keys included, holds a lone surrogate."""
    pending = [value]  # no recursion: what clients nest can be deeper than our stack
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            _check(item)
        elif isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def _check(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.start]
        raise ValueError(f"a lone surrogate is half a character (after {near!r})") from error
