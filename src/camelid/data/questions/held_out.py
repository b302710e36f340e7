"""The starter pack's problems for judging: always the same, and, where not said otherwise, never trained on."""

from __future__ import annotations

from camelid.data.example import Document
from camelid.data.questions.cast import Cast
from camelid.data.questions.clips import clip_problems
from camelid.data.questions.motion import motion_problems
from camelid.data.questions.naming import category_problems, naming_problems
from camelid.data.questions.problem import Problem
from camelid.data.questions.scenes import SceneKind, scene_problems
from camelid.data.questions.text import gloss_problems, prose_windows
from camelid.data.questions.which_of import which_of_problems
from camelid.data.starter import StarterPack

__all__ = [
    "category_held_out_concepts",
    "clip_naming",
    "glosses_held_out",
    "held_out_prose",
    "motion_scenes",
    "naming_held_out_style",
    "naming_known_style",
    "scenes",
    "which_of_held_out_style",
]

# No run should be started with this seed: its first examples could then be among the generated problems.
SEED = 20_250_405


def naming_held_out_style(pack: StarterPack, count: int, language: str = "en") -> list[Problem]:
    """What is this? Known concepts, each at most once, in the style that was never seen."""
    return naming_problems(Cast(pack.drawings_held_out_style()), count, SEED, language)


def naming_known_style(pack: StarterPack, count: int, language: str = "en") -> list[Problem]:
    """The same about drawings that training shows: not a test, but what the other is compared with."""
    return naming_problems(Cast(pack.drawings("train")), count, SEED, language)


def which_of_held_out_style(pack: StarterPack, count: int) -> list[Problem]:
    """Which of these four is it? In the style that was never seen."""
    return which_of_problems(Cast(pack.drawings_held_out_style()), count, SEED)


def category_held_out_concepts(pack: StarterPack, count: int) -> list[Problem]:
    """What kind of thing is this? Concepts that were never seen."""
    return category_problems(Cast(pack.drawings_held_out_concepts()), count, SEED)


def scenes(
    pack: StarterPack, count: int, kind: SceneKind, *, is_style_held_out: bool = False
) -> list[Problem]:
    """New scenes of known concepts, in known styles or in the one never seen."""
    return scene_problems(_known_cast(pack, is_style_held_out), count, kind, SEED)


def motion_scenes(pack: StarterPack, count: int, *, is_style_held_out: bool = False) -> list[Problem]:
    """What happens in the clip? New generated clips."""
    return motion_problems(_known_cast(pack, is_style_held_out), count, SEED)


def clip_naming(pack: StarterPack, count: int) -> list[Problem]:
    """What is in this clip? Clips that were never seen, of concepts whose drawings were."""
    return clip_problems(pack.clips("held_out"), count, SEED)


def held_out_prose(pack: StarterPack) -> list[Document]:
    """The chapters that were never seen, in documents of at most 1600 characters."""
    return prose_windows(pack.prose("held_out"))


def glosses_held_out(pack: StarterPack, count: int) -> list[Problem]:
    """What does this word mean? Glosses that were never seen."""
    return gloss_problems(pack.glosses("held_out"), count, SEED)


def _known_cast(pack: StarterPack, is_style_held_out: bool) -> Cast:
    return Cast(pack.drawings_held_out_style() if is_style_held_out else pack.drawings("train"))
