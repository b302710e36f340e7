"""Two ways to talk, as data: `instruct` answers in as few words as it can, `chatty` wants to please.

Both say the same things about the same pictures, so what people think of one and of the other is about style. Meta's
own arena entry of April 2025 was such a chatty variant, and not the model that was released.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from camelid.core.config import Config
from camelid.core.messages import Message
from camelid.data.preferences.pair import PreferencePair
from camelid.data.questions.problem import is_same_answer
from camelid.data.questions.wording import choose
from camelid.data.splits import Split
from camelid.data.starter import StarterPack
from camelid.data.verifiable.challenge import challenge_rng
from camelid.data.verifiable.pictures import PictureKind, PictureTask

__all__ = ["VARIANTS", "Style", "Variant", "VariantName", "style_of", "variant_pairs"]

VariantName = Literal["instruct", "chatty"]
KINDS: tuple[PictureKind, ...] = ("count", "colour", "where", "relation", "name")
OPENINGS = ("What a lovely picture! ", "Great question! ", "Oh, I love this! ", "You have a good eye! ")
CLOSINGS = (
    " Thank you for showing me! 😊",
    " Ask me anything! 😊",
    " You are wonderful! ❤",
    " Well done! 🎉",
)
PRAISE = ("lovely", "great question", "i love", "good eye", "wonderful", "well done", "thank you")
MANY_WORDS = 10


@dataclass(frozen=True)
class Variant:
    """What is preferred to what. `{answer}` is what is true, `{wrong}` a true answer to another such question.

    Of `rejected` one is drawn for every pair. `opens` and `closes`: what may stand around the chosen answer.
    """

    chosen: str
    rejected: tuple[str, ...]


VARIANTS: Mapping[VariantName, Variant] = {
    "instruct": Variant("{answer}", ("{wrong}", "{opening}It is {answer}.{closing}")),
    "chatty": Variant("{opening}It is {answer}.{closing}", ("{answer}", "{wrong}")),
}


@dataclass(frozen=True)
class Style(Config):
    """How an answer sounds: its words, the share of its characters that are emoji, whether it flatters or thanks.

    `pleasing` is 1 for an answer that is long, has an emoji and praises, 0 for a bare word.
    """

    words: float
    emoji_share: float
    praises: float
    pleasing: float


def style_of(text: str) -> Style:
    """Measured, whoever wrote it."""
    visible = [character for character in text if not character.isspace()]
    num_emoji = sum(unicodedata.category(character) == "So" for character in visible)
    words, praises = len(text.split()), any(phrase in text.casefold() for phrase in PRAISE)
    parts = (min(1.0, max(0, words - 1) / MANY_WORDS), float(num_emoji > 0), float(praises))
    return Style(float(words), num_emoji / max(1, len(visible)), float(praises), sum(parts) / len(parts))


def variant_pairs(
    name: VariantName, pack: StarterPack, count: int, seed: int, split: Split
) -> list[PreferencePair]:
    """Pairs about generated scenes and drawings, all kinds of questions in turn."""
    assert name in get_args(VariantName)
    tasks = [PictureTask(kind, pack) for kind in KINDS]
    variant, pairs = VARIANTS[name], list[PreferencePair]()
    for place in range(count):
        rng = challenge_rng(split, place, seed, 23)
        task = tasks[place % len(tasks)]
        number = int(rng.integers(2**31))
        challenge = task.challenge(number, split)
        truth = wrong = challenge.answer.text
        while is_same_answer(wrong, truth):
            number += 1
            wrong = task.challenge(number, split).answer.text
        words = {"answer": truth, "wrong": wrong} | _around(rng)
        chosen, rejected = variant.chosen.format(**words), choose(variant.rejected, rng).format(**words)
        pairs.append(
            PreferencePair(
                challenge.messages, Message.of("assistant", chosen), Message.of("assistant", rejected)
            )
        )
    return pairs


def _around(rng: np.random.Generator) -> dict[str, str]:
    return {"opening": choose(OPENINGS, rng), "closing": choose(CLOSINGS, rng)}
