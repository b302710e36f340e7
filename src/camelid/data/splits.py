"""Which rows are held out: pure rules on names, so that every data set made from the same origins agrees.

Nothing is chosen by hand. A name's sha256, read as a fraction of one, falls below the held-out share or it
does not; so the answer never depends on what else a data set contains.
"""

from __future__ import annotations

import hashlib
from typing import Literal

__all__ = [
    "HELD_OUT_STYLE",
    "Split",
    "base_code_point",
    "is_held_out_clip",
    "is_held_out_concept",
    "is_held_out_gloss",
    "is_held_out_text",
    "is_in_share",
]

Split = Literal["train", "held_out"]

HELD_OUT_STYLE = "twemoji"
CONCEPT_SHARE = 0.06
CLIP_SHARE = 0.12
TEXT_SHARE = 0.05
GLOSS_SHARE = 0.03

SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
GENDERS = {"2640", "2642"}
JOINER, VARIATION = "200D", "FE0F"
PERSON = {"1F468": "1F9D1", "1F469": "1F9D1"}


def base_code_point(code_point: str) -> str:
    """What is left of "1F469-1F3FD-200D-1F33E" without variation mark, skin tone and gender: "1F9D1-200D-1F33E".

    Variants of one emoji look nearly alike, so they have to fall on the same side of every split.
    """
    parts = [part for part in code_point.upper().split("-") if part != VARIATION]
    if len(parts) > 1:
        parts = [part for part in parts if part not in SKIN_TONES]
    if len(parts) > 1:
        parts = [PERSON.get(part, part) for part in parts if part not in GENDERS]
    while parts[-1] == JOINER:
        parts.pop()
    return "-".join(parts)


def is_held_out_concept(code_point: str) -> bool:
    """Whether nothing that shows this emoji, nor a variant of it, may be trained on."""
    return _fraction("concept", base_code_point(code_point)) < CONCEPT_SHARE


def is_held_out_clip(code_point: str) -> bool:
    """Whether the clip of this emoji is held out, although its drawings may be known."""
    return is_held_out_concept(code_point) or _fraction("clip", base_code_point(code_point)) < CLIP_SHARE


def is_held_out_text(title: str, chapter: int) -> bool:
    """Whether a chapter of a book is held out."""
    return _fraction("text", title, str(chapter)) < TEXT_SHARE


def is_in_share(code_point: str, share: float) -> bool:
    """Whether an emoji belongs to the given share of all of them. Smaller shares are parts of larger ones."""
    return _fraction("share", base_code_point(code_point)) < share


def is_held_out_gloss(gloss: str) -> bool:
    """Whether a gloss is held out. By its first clause, not by the word: synonyms share theirs."""
    return _fraction("gloss", gloss.split(";")[0].strip()) < GLOSS_SHARE


def _fraction(*names: str) -> float:
    """A number in [0, 1) that depends on the names alone."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
