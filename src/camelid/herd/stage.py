"""The road as data: which stages there are, in which order, and what each begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from camelid.core import Config
from camelid.herd.config import HerdConfig

__all__ = ["PRETRAINING", "Kind", "Stage", "plan"]

Kind = Literal["codistill", "long-context", "sft", "rl", "dpo", "eval"]
PRETRAINING = "pretraining"


@dataclass(frozen=True)
class Stage:
    """One part of the road. `base` is the stage whose model it goes on with or asks; empty for the first."""

    name: str
    kind: Kind
    member: str
    config: Config
    base: str = ""


def plan(config: HerdConfig) -> tuple[Stage, ...]:
    """All learning first, student by student, then every model is evaluated."""
    teacher = config.pretraining.teacher.preset
    stages = [Stage(PRETRAINING, "codistill", teacher, config.pretraining)]
    asked = [(teacher, PRETRAINING)]
    chain: tuple[tuple[Kind, Config | None], ...] = (
        ("long-context", config.long_context),
        ("sft", config.sft),
        ("rl", config.rl),
    )
    for member in (student.preset for student in config.pretraining.students):
        base = PRETRAINING
        asked.append((member, base))
        for kind, part in chain:
            if part is not None:
                stages.append(Stage(f"{member}/{kind}", kind, member, part, base))
                base = stages[-1].name
        variants = [
            Stage(f"{member}/{variant.variant}", "dpo", member, variant, base) for variant in config.variants
        ]
        stages += variants
        ends = [variant.name for variant in variants] or [base]
        asked += [(member, end) for end in ends if end != PRETRAINING]
    if config.evaluation is not None:
        for member, model in asked:
            name = f"{member}/{PRETRAINING}" if model == PRETRAINING else model
            stages.append(Stage(f"{name}/eval", "eval", member, config.evaluation, model))
    return tuple(stages)
