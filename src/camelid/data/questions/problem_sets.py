"""The held-out problems by the names under which their scores are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from camelid.core.errors import ConfigError
from camelid.data.questions import held_out
from camelid.data.questions.problem import Problem
from camelid.data.starter import StarterPack

__all__ = ["PROBLEM_SETS", "problem_set"]

PROBLEM_SETS: dict[str, Callable[[StarterPack, int], list[Problem]]] = {
    "name-unseen-style": held_out.naming_held_out_style,
    "choice-unseen-style": held_out.which_of_held_out_style,
    "category-unseen-concept": held_out.category_held_out_concepts,
    "count-new-scene": lambda pack, count: held_out.scenes(pack, count, "count"),
    "colour-new-scene": lambda pack, count: held_out.scenes(pack, count, "colour"),
    "place-new-scene": lambda pack, count: held_out.scenes(pack, count, "where"),
    "relation-new-scene": lambda pack, count: held_out.scenes(pack, count, "relation"),
    "motion-new-clip": held_out.motion_scenes,
    "name-unseen-clip": held_out.clip_naming,
}


def problem_set(name: str, pack: StarterPack, count: int) -> list[Problem]:
    """At most `count` problems, their kind being the set's name; ConfigError lists the names there are."""
    if name not in PROBLEM_SETS:
        raise ConfigError(f"no kind of problem {name!r}; there are: {', '.join(PROBLEM_SETS)}")
    return [dataclasses.replace(problem, kind=name) for problem in PROBLEM_SETS[name](pack, count)]
