"""Questions about generated pictures and clips, and about drawings, right only when they are exactly right."""

from __future__ import annotations

from typing import Literal, get_args

from camelid.core.messages import ImagePart, Message, VideoPart
from camelid.data.augment import on_white
from camelid.data.questions.cast import Cast
from camelid.data.questions.motion import film
from camelid.data.questions.problem import is_same_answer
from camelid.data.questions.scenes import compose_scene, questions_about
from camelid.data.questions.wording import NAME_QUESTIONS
from camelid.data.splits import Split
from camelid.data.starter import StarterPack
from camelid.data.verifiable.challenge import Challenge, challenge_rng

__all__ = ["PictureKind", "PictureTask"]

PictureKind = Literal["count", "colour", "where", "relation", "motion", "name"]


class PictureTask:
    """One kind of question. Held out are new scenes and clips; for names, the style that is never trained on."""

    def __init__(self, kind: PictureKind, pack: StarterPack) -> None:
        self.name: str = kind
        self._kind = kind
        self._casts = {"train": Cast(pack.drawings("train"))}
        held_out = Cast(pack.drawings_held_out_style()) if kind == "name" else self._casts["train"]
        self._casts["held_out"] = held_out

    def challenge(self, number: int, split: Split = "train") -> Challenge:
        """The same picture and question whenever it is asked for."""
        rng = challenge_rng(split, number, get_args(PictureKind).index(self._kind))
        cast = self._casts[split]
        if self._kind == "motion":
            clip = film(cast, rng)
            message = Message.of("user", VideoPart(clip.frames), "What happens in the clip?")
            return _exact(message, clip.sentence)
        if self._kind == "name":
            concept = cast.concepts[int(rng.integers(len(cast.concepts)))]
            picture = ImagePart(on_white(cast.drawing(concept, rng)))
            return _exact(Message.of("user", picture, NAME_QUESTIONS["en"][0]), concept.name)
        while True:
            scene = compose_scene(cast, rng)
            for question in questions_about(scene, rng):
                if question.kind == self._kind:
                    message = Message.of("user", ImagePart(scene.picture), question.text)
                    return _exact(message, question.answer)


def _exact(message: Message, truth: str) -> Challenge:
    answer = Message.of("assistant", truth)
    return Challenge((message,), lambda said: float(is_same_answer(said, truth)), answer)
