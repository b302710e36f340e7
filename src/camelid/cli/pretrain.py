"""`camelid pretrain`: a recipe's numbers as flags, the run on a view, a report at the end."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import AvoidSubcommands, arg

from camelid.cli.training_run import run_stage
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.recipes import RECIPES
from camelid.stages.pretrain import PretrainConfig, pretrain

__all__ = ["Flags", "list_recipes", "parse_flags", "resume_run", "start_run"]


@dataclass(frozen=True)
class Flags:
    """A recipe, with whatever was changed on the command line."""

    config: Annotated[PretrainConfig, arg(name="")]
    run_root: Path = Path("runs")
    """Where the run's folder is made."""


def parse_flags(recipe: str, words: Sequence[str]) -> Flags:
    """The recipe's configuration, changed by flags. ConfigError lists the recipes there are."""
    if recipe not in RECIPES:
        raise ConfigError(f"no recipe {recipe!r}; there are: {', '.join(RECIPES)}")
    return tyro.cli(
        Flags,
        prog=f"camelid pretrain {recipe}",
        description=_first_line(recipe),
        default=Flags(RECIPES[recipe]()),
        args=words,
        config=(AvoidSubcommands,),
    )


def list_recipes() -> None:
    """Prints each recipe with what it is for."""
    table = Table(title="camelid pretrain RECIPE", box=None, title_justify="left", show_header=False)
    for name in RECIPES:
        table.add_row(f"[bold]{name}[/]", _first_line(name))
    Console().print(table)


def start_run(flags: Flags) -> int:
    """A new run; the exit code."""
    return _run(flags.config, flags.run_root, None)


def resume_run(run_dir: Path) -> int:
    """Goes on with a run after its last checkpoint; the exit code."""
    run = RunDir.open(run_dir)
    return _run(PretrainConfig.load(run.config_path), run_dir.parent, run)


def _run(config: PretrainConfig, run_root: Path, resume: RunDir | None) -> int:
    return run_stage(
        "pretrain",
        f"pretraining {config.preset}",
        config,
        lambda observers: pretrain(config, run_root=run_root, resume=resume, observers=observers),
    )


def _first_line(recipe: str) -> str:
    return (inspect.getdoc(RECIPES[recipe]) or "").partition("\n")[0]
