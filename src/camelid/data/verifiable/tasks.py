"""Verifiable tasks by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from camelid.core.errors import ConfigError
from camelid.data.starter import StarterPack
from camelid.data.verifiable.challenge import Task
from camelid.data.verifiable.gym import PREFIX, GymTask
from camelid.data.verifiable.pictures import PictureKind, PictureTask
from camelid.data.verifiable.recall import MAX_PAIRS, RecallTask
from camelid.data.verifiable.tools import ToolTask

__all__ = ["TASK_NAMES", "open_tasks"]

TASK_NAMES = (*get_args(PictureKind), "tools", "recall-N", f"{PREFIX}NAME")
"""What there is; N is a number of pairs, NAME a data set of reasoning-gym."""


def open_tasks(names: Sequence[str], pack: StarterPack | None = None) -> list[Task]:
    """The tasks; ConfigError lists what there is. Pictures come from `pack`, by default the one in the package."""
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"tasks must be at least one and different, got {list(names)}")
    return [_open_task(name, pack or StarterPack.open()) for name in names]


def _open_task(name: str, pack: StarterPack) -> Task:
    for kind in get_args(PictureKind):
        if name == kind:
            return PictureTask(kind, pack)
    if name == ToolTask.name:
        return ToolTask()
    before, _, count = name.partition("recall-")
    if not before and count.isdecimal() and 2 <= int(count) <= MAX_PAIRS:
        return RecallTask(int(count))
    if name.startswith(PREFIX):
        return GymTask(name.removeprefix(PREFIX))
    raise ConfigError(f"no task {name!r}; there are: {', '.join(TASK_NAMES)} (N from 2 to {MAX_PAIRS})")
