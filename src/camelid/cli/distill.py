"""`camelid distill`: a student under a teacher, or teacher and students together, on a view with reports at the end."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import AvoidSubcommands, arg

from camelid.cli.live_view import open_view
from camelid.cli.training_run import end_run, run_stage
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.recipes import DISTILL_RECIPES
from camelid.stages.distill import (
    CodistillConfig,
    DistillConfig,
    Student,
    codistill,
    distill,
    student_runs,
)
from camelid.train import WSD, Constant, Gap, Observer, SoftWeight, StepMetrics

__all__ = ["CodistillFlags", "DistillFlags", "list_recipes", "parse_flags", "resume_run", "start_run"]

Strategy = Literal["constant", "wsd", "gap"]
STRATEGIES: dict[Strategy, Callable[[], SoftWeight]] = {"constant": Constant, "wsd": WSD, "gap": Gap}


@dataclass(frozen=True)
class DistillFlags:
    """A recipe with a finished teacher, with whatever was changed on the command line."""

    config: Annotated[DistillConfig, arg(name="")]
    weigh: Strategy | None = None
    """How the teacher's part of the loss goes along training, by the strategy's defaults. Default: the recipe's."""
    run_root: Path = Path("runs")
    """Where the run's folder is made."""

    def changed(self) -> DistillConfig:
        """The configuration that is meant."""
        return (
            self.config if self.weigh is None else self.config.replace(soft_weight=STRATEGIES[self.weigh]())
        )


@dataclass(frozen=True)
class CodistillFlags:
    """A recipe whose teacher learns too, with whatever was changed on the command line."""

    config: Annotated[CodistillConfig, arg(name="")]
    weigh: Strategy | None = None
    """How the teacher's part of the loss goes along training, by the strategy's defaults. Default: the recipe's."""
    run_root: Path = Path("runs")
    """Where the job's folder is made."""

    def changed(self) -> CodistillConfig:
        """The configuration that is meant."""
        if self.weigh is None:
            return self.config
        weight = STRATEGIES[self.weigh]()
        students = tuple(student.replace(soft_weight=weight) for student in self.config.students)
        return self.config.replace(students=students)


def parse_flags(recipe: str, words: Sequence[str]) -> DistillFlags | CodistillFlags:
    """The recipe's configuration, changed by flags. ConfigError lists the recipes there are."""
    if recipe not in DISTILL_RECIPES:
        raise ConfigError(f"no recipe {recipe!r}; there are: {', '.join(DISTILL_RECIPES)}")
    config = DISTILL_RECIPES[recipe]()
    flags = DistillFlags(config) if isinstance(config, DistillConfig) else CodistillFlags(config)
    parsed: DistillFlags | CodistillFlags = tyro.cli(
        type(flags),
        prog=f"camelid distill {recipe}",
        description=_first_line(recipe),
        default=flags,
        args=words,
        config=(AvoidSubcommands,),
    )
    return parsed


def list_recipes() -> None:
    """Prints each recipe with what it is for."""
    table = Table(title="camelid distill RECIPE", box=None, title_justify="left", show_header=False)
    for name in DISTILL_RECIPES:
        table.add_row(f"[bold]{name}[/]", _first_line(name))
    Console().print(table)


def start_run(flags: DistillFlags | CodistillFlags) -> int:
    """A new run; the exit code."""
    return _run(flags.changed(), flags.run_root, None)


def resume_run(run_dir: Path) -> int:
    """Goes on with a run or a job after its last checkpoint; the exit code."""
    run = RunDir.open(run_dir)
    config_type = CodistillConfig if run.status()["stage"] == "codistill" else DistillConfig
    return _run(config_type.load(run.config_path), run_dir.parent, run)


def _run(config: DistillConfig | CodistillConfig, run_root: Path, resume: RunDir | None) -> int:
    if isinstance(config, CodistillConfig):
        return _run_together(config, run_root, resume)
    return run_stage(
        "distill",
        f"distilling {config.student.preset}",
        config,
        lambda observers: distill(config, run_root=run_root, resume=resume, observers=observers),
    )


def _run_together(config: CodistillConfig, run_root: Path, resume: RunDir | None) -> int:
    """One view that turns to whoever is learning, and a report for each."""
    console = Console()
    with open_view(_title(config, config.teacher.preset), console) as view:

        def observers(member: str) -> Sequence[Observer]:
            def step(metrics: StepMetrics) -> None:
                view.turn_to(_title(config, member))
                view.step(metrics)

            return [step]

        job = codistill(config, run_root=run_root, resume=resume, observers=observers)
    for preset, run in student_runs(job).items():
        student = Student.from_dict(json.loads(run.config_path.read_text(encoding="utf-8")))
        end_run("distill", _title(config, preset), student, run, console)
    return end_run("distill", _title(config, config.teacher.preset), config, job, console)


def _title(config: CodistillConfig, member: str) -> str:
    return f"{'pretraining' if member == config.teacher.preset else 'codistilling'} {member}"


def _first_line(recipe: str) -> str:
    return (inspect.getdoc(DISTILL_RECIPES[recipe]) or "").partition("\n")[0]
