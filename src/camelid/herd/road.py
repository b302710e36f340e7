"""Going the road: stage after stage from where the last process left it, with what was found written down.

A finished stage is skipped; one that was begun goes on from its own last checkpoint. Each has a folder of its own
below the herd's, so that a process killed before it could write anything down is still found.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from camelid.core import Config
from camelid.core.digest import sha256_of_file
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.herd.config import OWN_TEACHER, HerdConfig
from camelid.herd.evaluation import evaluate
from camelid.herd.stage import PRETRAINING, Kind, Stage, plan
from camelid.herd.state import HerdState
from camelid.inputs import ChatFormat
from camelid.model import Llama4
from camelid.stages.distill import codistill, student_runs
from camelid.stages.dpo import dpo
from camelid.stages.long_context import long_context
from camelid.stages.rl import RlConfig, rl
from camelid.stages.sft import sft
from camelid.train import Observer

__all__ = ["RUNNERS", "Runner", "Watch", "travel"]

WEIGHTS = "model.safetensors"


class Watch(Protocol):
    """Who is told how it goes."""

    def begins(self, stage: Stage, state: HerdState) -> None:
        """Before a stage that is not finished yet."""
        ...

    def meets(self, member: str, model: Llama4, chat_format: ChatFormat) -> None:
        """A member of the herd before its first step: the live model that pretraining changes."""
        ...

    def observers(self, stage: Stage, member: str) -> Sequence[Observer]:
        """Who is told of every step of a member."""
        ...

    def asked(self, stage: Stage, done: int, total: int) -> None:
        """So many questions of an evaluation are answered."""
        ...

    def ended(self, stage: Stage, state: HerdState, runs: Mapping[str, RunDir]) -> None:
        """After a stage, finished or interrupted."""
        ...


class _Nobody:
    def begins(self, stage: Stage, state: HerdState) -> None:
        pass

    def meets(self, member: str, model: Llama4, chat_format: ChatFormat) -> None:
        pass

    def observers(self, stage: Stage, member: str) -> Sequence[Observer]:
        return ()

    def asked(self, stage: Stage, done: int, total: int) -> None:
        pass

    def ended(self, stage: Stage, state: HerdState, runs: Mapping[str, RunDir]) -> None:
        pass


Runner = Callable[[Stage, Path, RunDir | None, Watch], RunDir]


def _codistill(stage: Stage, root: Path, resume: RunDir | None, watch: Watch) -> RunDir:
    config: Any = stage.config
    return codistill(
        config,
        run_root=root,
        resume=resume,
        observers=lambda member: watch.observers(stage, member),
        on_start=lambda run, *known: watch.meets(run.status()["preset"], *known),
    )


def _evaluate(stage: Stage, root: Path, resume: RunDir | None, watch: Watch) -> RunDir:
    config: Any = stage.config
    return evaluate(
        config, run_root=root, resume=resume, tell=lambda done, total: watch.asked(stage, done, total)
    )


def _learner(run: Callable[..., RunDir]) -> Runner:
    def learn(stage: Stage, root: Path, resume: RunDir | None, watch: Watch) -> RunDir:
        observers = watch.observers(stage, stage.member)
        return run(stage.config, run_root=root, resume=resume, observers=observers)

    return learn


RUNNERS: Mapping[Kind, Runner] = {
    "codistill": _codistill,
    "long-context": _learner(long_context),
    "sft": _learner(sft),
    "rl": _learner(rl),
    "dpo": _learner(dpo),
    "eval": _evaluate,
}


def travel(
    config: HerdConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    watch: Watch | None = None,
    on_start: Callable[[RunDir], None] = lambda _: None,
    runners: Mapping[Kind, Runner] = RUNNERS,
) -> RunDir:
    """Trains and evaluates a herd, or goes on with `resume`; returns the herd's folder.

    On SIGTERM and Ctrl-C the step is finished and saved, and the road ends there for now. ConfigError, with both
    digests, when the resumed herd was configured differently; whatever a stage raises, herd.json says which it was.
    """
    if resume is not None:
        known = HerdConfig.load(resume.config_path)
        if known != config:
            raise ConfigError(
                f"{resume.path} was configured differently: its digest is {known.digest[:12]}…, not "
                f"{config.digest[:12]}…"
            )
    folder = resume or RunDir.create(run_root, "herd", config.name, config, sys.argv)
    state, watch = HerdState.of(folder, config), watch or _Nobody()
    state.write(folder)
    on_start(folder)
    folder.set_status("running")
    for number, stage in enumerate(plan(config), start=1):
        if state[stage.name].status == "finished":
            continue
        before, began = state[stage.name].seconds, time.monotonic()

        def seconds(before: float = before, began: float = began) -> float:
            return round(before + time.monotonic() - began, 1)

        root = folder.stages_dir / f"{number:02}-{stage.name.replace('/', '-')}"
        state = state.changed(stage.name, status="running")
        state.write(folder)
        watch.begins(stage, state)
        try:
            ready = replace(stage, config=_ready(stage, config, state, folder))
            run = runners[stage.kind](ready, root, _only_run(root), watch)
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            state.changed(stage.name, status=status, seconds=seconds()).write(folder)
            folder.set_status("interrupted" if status == "interrupted" else "failed")
            raise
        runs = {stage.member: run} | (student_runs(run) if stage.kind == "codistill" else {})
        is_finished = run.status()["status"] == "finished"
        state = state.changed(
            stage.name,
            status="finished" if is_finished else "interrupted",
            seconds=seconds(),
            runs={name: str(one.path.relative_to(folder.path)) for name, one in runs.items()},
            models=_digests(runs) if is_finished else {},
        )
        state.write(folder)
        watch.ended(stage, state, runs)
        if not is_finished:
            folder.set_status("interrupted")
            return folder
    folder.set_status("finished")
    return folder


def _ready(stage: Stage, herd: HerdConfig, state: HerdState, folder: RunDir) -> Config:
    """The stage's configuration with the folders of the models that it needs."""
    config = stage.config
    if not stage.base:
        return config
    model = str(state.model_dir(folder, stage.base, stage.member))
    if stage.kind == "eval":
        return config.replace(model=model)
    if isinstance(config, RlConfig) and config.teacher == OWN_TEACHER:
        teacher = state.model_dir(folder, PRETRAINING, herd.pretraining.teacher.preset)
        config = config.replace(teacher=str(teacher))
    return config.replace(base=model)


def _only_run(root: Path) -> RunDir | None:
    """What an earlier process began here; a folder that it had no time to describe does not count."""
    found = sorted(root.glob("*/run.json"))
    return RunDir.open(found[0].parent) if found else None


def _digests(runs: Mapping[str, RunDir]) -> dict[str, str]:
    """Of the weights that a stage left; an evaluation leaves none."""
    ends = {member: run.latest_checkpoint() for member, run in runs.items()}
    return {member: sha256_of_file(end / WEIGHTS) for member, end in ends.items() if end is not None}
