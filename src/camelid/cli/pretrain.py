"""`camelid pretrain`: a recipe's numbers as flags, the run on a view, a report at the end."""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import AvoidSubcommands, arg

from camelid.cli.live_view import open_view
from camelid.cli.report import Report
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.recipes import RECIPES
from camelid.stages.pretrain import PretrainConfig, pretrain

__all__ = [
    "Flags",
    "camelid_command",
    "environment",
    "list_recipes",
    "parse_flags",
    "resume_run",
    "start_run",
]

INTERRUPTED = 130


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


def camelid_command(*words: str) -> str:
    """What to type to run this very installation with these arguments, from this folder."""
    program = Path(sys.argv[0])
    if program.name != "camelid":
        return " ".join(("camelid", *words))
    here = Path.cwd()
    shown = program.relative_to(here) if program.is_absolute() and program.is_relative_to(here) else program
    return " ".join((str(shown), *words))


def environment(run: RunDir) -> dict[str, Any]:
    """What a report says about where and how a run was made."""
    return run.status() | {"python": platform.python_version(), "machine": platform.platform()}


def _run(config: PretrainConfig, run_root: Path, resume: RunDir | None) -> int:
    console = Console()
    with open_view(f"pretraining {config.preset}", console) as view:
        run = pretrain(config, run_root=run_root, resume=resume, observers=[view.step])
    command = camelid_command("chat", str(run.path))
    report = Report(
        title=f"Pretraining {config.preset}",
        metrics=run.metrics(),
        config=config.to_dict(),
        environment=environment(run),
        chat_command=command,
    )
    report.write(run.report_path)
    _tell(console, "report", str(run.report_path))
    if run.status()["status"] == "interrupted":
        _tell(console, "interrupted; go on with", camelid_command("pretrain", "--resume", str(run.path)))
        return INTERRUPTED
    _tell(console, "talk to it", command)
    return 0


def _tell(console: Console, what: str, value: str) -> None:
    console.print(f"{what}: {value}", markup=False, highlight=False, soft_wrap=True)


def _first_line(recipe: str) -> str:
    return (inspect.getdoc(RECIPES[recipe]) or "").partition("\n")[0]
