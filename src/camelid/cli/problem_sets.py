"""The held-out problems by the names under which their scores are told."""

from __future__ import annotations

from collections.abc import Callable

from camelid.core.errors import ConfigError
from camelid.data.questions import held_out
from camelid.data.questions.problem import Problem
from camelid.data.starter import StarterPack

__all__ = ["PROBLEM_SETS", "problem_set"]

PROBLEM_SETS: dict[str, Callable[[StarterPack, int], list[Problem]]] = {
    "name it, style never seen": held_out.naming_held_out_style,
    "which of these, style never seen": held_out.which_of_held_out_style,
    "kind of thing, concept never seen": held_out.category_held_out_concepts,
    "how many, new scene": lambda pack, count: held_out.scenes(pack, count, "count"),
    "what colour, new scene": lambda pack, count: held_out.scenes(pack, count, "colour"),
    "where, new scene": lambda pack, count: held_out.scenes(pack, count, "where"),
    "what happens, new clip": held_out.motion_scenes,
    "name it, clip never seen": held_out.clip_naming,
}


def problem_set(name: str, pack: StarterPack, count: int) -> list[Problem]:
    """At most `count` problems; ConfigError lists the names there are."""
    if name not in PROBLEM_SETS:
        raise ConfigError(f"no kind of problem {name!r}; there are: {', '.join(PROBLEM_SETS)}")
    return PROBLEM_SETS[name](pack, count)
