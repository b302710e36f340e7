"""What is in this clip? Real animations, and what they show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from camelid.core.messages import Frame, Message, VideoPart
from camelid.data.augment import PICTURE_SIZE, AugmentConfig, augment_drawing, cut_out
from camelid.data.epochs import epoch_order
from camelid.data.example import Conversation
from camelid.data.questions.problem import Problem
from camelid.data.questions.turns import talk
from camelid.data.questions.wording import (
    CATEGORY_QUESTIONS,
    CLIP_QUESTIONS,
    GROUP_NAMES,
    LANGUAGES,
    NAME_IN_LANGUAGE,
    choose,
)
from camelid.data.starter import Clip

__all__ = ["Clips", "clip_problems"]

NUM_FRAMES = 4
ONE_TURN_SHARE = 0.8


class Clips:
    """Animated drawings with their names, walking through all clips in shuffled epochs."""

    name = "clips"

    def __init__(
        self, clips: Sequence[Clip], seed: int = 0, augment: AugmentConfig = AugmentConfig()
    ) -> None:
        self._clips = clips
        self._seed = seed
        self._augment = augment

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """Four frames, evenly spaced from a random one on, all altered in the same way; one to three turns."""
        clip = self._clips[epoch_order(len(self._clips), index, self._seed)]
        concept, frames = clip.concept, _cut_out_frames(clip)
        step = max(1, len(frames) // NUM_FRAMES)
        phase, look = int(rng.integers(step)), int(rng.integers(2**32))
        altered = [
            augment_drawing(frame, np.random.default_rng(look), self._augment)
            for frame in frames[phase::step][:NUM_FRAMES]
        ]
        video = VideoPart(tuple(map(Frame, altered, _times(clip))))
        language = choose([code for code in LANGUAGES if code != "en"], rng)
        in_other = choose(NAME_IN_LANGUAGE, rng).format(language=LANGUAGES[language])
        turns = [
            (choose(CLIP_QUESTIONS, rng), concept.name),
            (choose(CATEGORY_QUESTIONS, rng), GROUP_NAMES[concept.group]),
            (in_other, concept.names[language]),
        ]
        num_turns = 1 if rng.random() < ONE_TURN_SHARE else int(rng.integers(2, 4))
        return talk(turns[:num_turns], [video])


def clip_problems(clips: Sequence[Clip], count: int, seed: int) -> list[Problem]:
    """Fixed open questions for the name, frames as they are, on white."""
    problems = []
    for index in np.random.default_rng(seed).permutation(len(clips))[:count]:
        clip = clips[int(index)]
        frames = clip.frames()[:: max(1, clip.num_frames // NUM_FRAMES)][:NUM_FRAMES]
        message = Message.of("user", VideoPart(tuple(map(Frame, frames, _times(clip)))), CLIP_QUESTIONS[0])
        problems.append(Problem((message,), clip.concept.name, "clip_naming", None, clip.concept.code_point))
    return problems


def _times(clip: Clip) -> list[float]:
    """Seconds from the first of NUM_FRAMES evenly spaced frames."""
    return [round(clip.duration_ms / 1000 * place / NUM_FRAMES, 2) for place in range(NUM_FRAMES)]


@cache
def _cut_out_frames(clip: Clip) -> tuple[Image.Image, ...]:
    """RGBA, decoded and cut out once: a pack of 500 clips of 8 frames takes 37 MB."""
    size = (PICTURE_SIZE, PICTURE_SIZE)
    return tuple(cut_out(frame).resize(size, Image.Resampling.LANCZOS) for frame in clip.frames())
