"""Running a stage of training on a view, with a report at the end."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from camelid.cli.live_view import open_view
from camelid.cli.report import Report
from camelid.core import Config
from camelid.core.run_dir import RunDir
from camelid.train import Observer

__all__ = ["INTERRUPTED", "camelid_command", "end_run", "environment", "run_stage", "write_report"]

INTERRUPTED = 130


def run_stage(
    command: str,
    title: str,
    config: Config,
    start: Callable[[Sequence[Observer]], RunDir],
    told: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda _: {},
) -> int:
    """Starts a stage that tells its observers of every step, then says how to go on; the exit code.

    `told` turns the notes of the run into what is said at the end, and in the report.
    """
    console = Console()
    with open_view(title, console) as view:
        run = start([view.step])
    return end_run(command, title, config, run, console, told(run.notes()))


def end_run(
    command: str,
    title: str,
    config: Config,
    run: RunDir,
    console: Console,
    summary: Mapping[str, str] | None = None,
) -> int:
    """Writes the report of a run that has come to a stop and says how to go on; the exit code."""
    summary = summary or {}
    write_report(title, run, config.to_dict(), summary)
    _tell(console, "report", str(run.report_path))
    if run.status()["status"] == "interrupted":
        _tell(console, "interrupted; go on with", camelid_command(command, "--resume", str(run.path)))
        return INTERRUPTED
    for name, value in summary.items():
        _tell(console, name, value)
    if run.adapter_dir.is_dir():
        _tell(console, "adapter", str(run.adapter_dir))
    _tell(console, "talk to it", camelid_command("chat", str(run.path)))
    return 0


def write_report(title: str, run: RunDir, config: Mapping[str, Any], summary: Mapping[str, str]) -> None:
    """The page of a run that has come to a stop, in its folder."""
    report = Report(
        title=title[:1].upper() + title[1:],
        metrics=run.metrics(),
        summary=summary,
        config=config,
        environment=environment(run),
        chat_command=camelid_command("chat", str(run.path)),
    )
    report.write(run.report_path)


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


def _tell(console: Console, what: str, value: str) -> None:
    console.print(f"{what}: {value}", markup=False, highlight=False, soft_wrap=True)
