"""`camelid demo`: a model is born, learns while you watch, and is asked about what it has never seen."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from camelid.cli.gallery import GalleryItem
from camelid.cli.interview import Interview
from camelid.cli.live_view import open_view
from camelid.cli.report import Report
from camelid.cli.training_run import INTERRUPTED, camelid_command, environment
from camelid.core.run_dir import RunDir
from camelid.data.questions.problem import Problem
from camelid.data.questions.problem_sets import PROBLEM_SETS, problem_set
from camelid.data.starter import StarterPack
from camelid.recipes import RECIPES
from camelid.stages.pretrain import PretrainConfig, pretrain

__all__ = ["run_demo"]

TITLE = "A nano Scout learns to read, to see and to watch"
WATCHED = (("name-unseen-style", 2), ("colour-new-scene", 1), ("name-unseen-clip", 1))
NUM_FINAL = 8  # of each kind


def run_demo(minutes: float, run_root: Path, report_path: Path) -> int:
    """Trains for so many minutes, asks, writes the report twice (here and into the run); the exit code."""
    console = Console()
    recipe = RECIPES["demo"]()
    config = recipe.replace(train=recipe.train.replace(max_minutes=minutes))
    with console.status("reading the starter data"):
        pack = StarterPack.open(concept_share=config.data.concept_share)
        watched = [problem for name, count in WATCHED for problem in _problems(pack, name, count)]
    with open_view(TITLE, console) as view:
        interview = Interview(watched, view.answers)
        run = pretrain(
            config, run_root=run_root, observers=[view.step, interview.on_step], on_start=interview.on_start
        )
    final = [problem for name in PROBLEM_SETS for problem in _problems(pack, name, NUM_FINAL)]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("the final questions", total=len(final))
        items = interview.ask(final, lambda item: progress.advance(task))
    console.print(_results(items))
    _report(config, run, items, report_path)
    console.print(f"report: {report_path}", markup=False, highlight=False, soft_wrap=True)
    console.print("talk to it:")
    console.print(camelid_command("chat", str(run.path)), markup=False, highlight=False, soft_wrap=True)
    return INTERRUPTED if run.status()["status"] == "interrupted" else 0


def _problems(pack: StarterPack, name: str, count: int) -> list[Problem]:
    """Each told as what its set is called."""
    return [
        dataclasses.replace(problem, kind=name.replace("-", " "))
        for problem in problem_set(name, pack, count)
    ]


def _results(items: Sequence[GalleryItem]) -> Table:
    right = Counter(item.kind for item in items if item.is_right)
    table = Table(title="asked about what it has never seen", title_justify="left")
    table.add_column("question")
    table.add_column("right", justify="right")
    for kind, number in Counter(item.kind for item in items).items():
        table.add_row(kind, f"{right[kind]} of {number}")
    return table


def _report(config: PretrainConfig, run: RunDir, items: Sequence[GalleryItem], report_path: Path) -> None:
    report = Report(
        title=TITLE,
        metrics=run.metrics(),
        gallery=items,
        config=config.to_dict(),
        environment=environment(run),
        chat_command=camelid_command("chat", str(run.path)),
    )
    report.write(run.report_path)
    report.write(report_path)
