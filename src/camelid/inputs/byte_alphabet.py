"""The printable stand-ins under which byte-level vocabularies write their bytes (GPT-2, 2019)."""

from __future__ import annotations

__all__ = ["byte_of_character"]


def byte_of_character() -> dict[str, int]:
    """Visible Latin-1 characters stand for themselves, characters from 256 on for the other bytes in order."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in visible]
    codes = [*visible, *range(256, 256 + len(hidden))]
    return {chr(code): value for code, value in zip(codes, [*visible, *hidden], strict=True)}
