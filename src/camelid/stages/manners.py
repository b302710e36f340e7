"""How a model talks about what it has never seen, and whether it is right: measured on held-out questions."""

from __future__ import annotations

from dataclasses import dataclass

from camelid.core import Config
from camelid.data import StarterPack
from camelid.data.loader import example_rng
from camelid.data.preferences import style_of
from camelid.data.preferences.variants import KINDS
from camelid.data.questions.problem import is_same_answer
from camelid.data.verifiable.pictures import PictureTask
from camelid.stages.experience import ask_groups
from camelid.stages.starting_point import StartingPoint

__all__ = ["Manners", "manners"]


@dataclass(frozen=True)
class Manners(Config):
    """Means over greedy answers; `right` are those that are the truth and nothing else, `contains` those with it in."""

    num_questions: int
    words: float
    emoji_share: float
    praises: float
    pleasing: float
    right: float
    contains: float


def manners(start: StartingPoint, pack: StarterPack, count: int, max_tokens: int) -> Manners:
    """Asks `count` held-out questions about pictures, all kinds in turn."""
    tasks = [PictureTask(kind, pack) for kind in KINDS]
    challenges = [tasks[place % len(tasks)].challenge(place, "held_out") for place in range(count)]
    groups = ask_groups(
        start.model,
        start.chat_format,
        challenges,
        example_rng(0, 0),
        samples=1,
        max_tokens=max_tokens,
        temperature=0.0,
    )
    texts, truths = [group.rollouts[0].text for group in groups], [one.answer.text for one in challenges]
    styles = [style_of(text) for text in texts]
    asked = list(zip(texts, truths, strict=True))
    return Manners(
        num_questions=count,
        words=sum(style.words for style in styles) / count,
        emoji_share=sum(style.emoji_share for style in styles) / count,
        praises=sum(style.praises for style in styles) / count,
        pleasing=sum(style.pleasing for style in styles) / count,
        right=sum(is_same_answer(text, truth) for text, truth in asked) / count,
        contains=sum(truth.casefold() in text.casefold() for text, truth in asked) / count,
    )
