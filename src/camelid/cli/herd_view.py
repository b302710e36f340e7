"""Watching a herd on its road: the stages with their times, and the one that learns now as any run is watched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from camelid.cli.interview import Interview
from camelid.cli.live_view import LiveView, PlainView, TrainingView, open_view
from camelid.cli.told_changes import told_changes
from camelid.cli.training_record import spoken_seconds
from camelid.cli.training_run import write_report
from camelid.core.run_dir import RunDir
from camelid.data import StarterPack
from camelid.data.questions.problem import Problem
from camelid.data.questions.problem_sets import PROBLEM_SETS, problem_set
from camelid.eval import GalleryItem
from camelid.herd import HerdConfig, HerdState, Stage
from camelid.infer import Generator
from camelid.inputs import ChatFormat
from camelid.model import Llama4
from camelid.train import Observer, StepMetrics

__all__ = ["RoadView", "open_road_view", "road_table"]

MARKS = {
    "finished": ("✓", "green"),
    "running": ("●", "bold cyan"),
    "interrupted": ("‖", "yellow"),
    "failed": ("✗", "bold red"),
    "waiting": ("·", "dim"),
}


NUM_WATCHED = 4  # questions, each of another kind, that members are asked while they learn


class _LiveRoad(LiveView):
    """The panel of the run that learns, below the road."""

    road: RenderableType = Text()

    def render(self) -> RenderableType:
        return Group(self.road, super().render())


class RoadView:
    """What a herd tells, shown on a terminal or printed line by line. A context manager."""

    def __init__(self, view: TrainingView, console: Console, watched: Sequence[Problem] = ()) -> None:
        self._view, self._console, self._watched = view, console, watched
        self._interviews: dict[str, Interview] = {}
        self._state: HerdState | None = None
        self._began, self._note = monotonic(), ""

    def __enter__(self) -> RoadView:
        self._view.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._view.__exit__(None, None, None)

    def announce(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begins(self, stage: Stage, state: HerdState) -> None:
        """Turns to a stage."""
        self._began, self._note = monotonic(), ""
        self._show(state)
        if stage.kind != "codistill":  # that one turns to its members
            self._view.turn_to(stage.name)

    def meets(self, member: str, model: Llama4, chat_format: ChatFormat) -> None:
        """Will ask it now and then."""

        def show(items: Sequence[GalleryItem], title: str) -> None:
            self._view.answers(items, f"{member}, {title}")

        if self._watched:
            completer = Generator(model, chat_format)
            self._interviews[member] = Interview(self._watched, model, completer, show)

    def observers(self, stage: Stage, member: str) -> Sequence[Observer]:
        """One that shows a member's steps; in pretraining another that asks it."""
        title = stage.name if stage.kind != "codistill" else f"{stage.name} {member}"

        def step(metrics: StepMetrics) -> None:
            self._view.turn_to(title)
            self._view.step(metrics)
            if self._state is not None:
                self._show(self._state)

        asking = (
            [self._interviews[member]] if stage.kind == "codistill" and member in self._interviews else []
        )
        return [step, *asking]

    def asked(self, stage: Stage, done: int, total: int) -> None:
        """Counts the questions of an evaluation."""
        self._note = f"{done:,} of {total:,} asked"
        if self._state is not None:
            self._show(self._state)

    def ended(self, stage: Stage, state: HerdState, runs: Mapping[str, RunDir]) -> None:
        """Writes the pages of the stage's runs."""
        self._show(state)
        if isinstance(self._view, PlainView):
            record = state[stage.name]
            self.announce(f"{stage.name}: {record.status}, {spoken_seconds(record.seconds)}")
        if stage.kind != "eval":
            for member, run in runs.items():
                title = stage.name if stage.kind != "codistill" else f"{stage.name} of {member}"
                config = json.loads(run.config_path.read_text(encoding="utf-8"))
                write_report(title, run, config, told_changes(run.notes()))

    def _show(self, state: HerdState) -> None:
        self._state = state
        if isinstance(self._view, _LiveRoad):
            self._view.road = road_table(state, monotonic() - self._began, self._note)


def open_road_view(config: HerdConfig, console: Console) -> RoadView:
    """Live where somebody can watch, plain lines where not."""
    with console.status("reading the starter data"):
        watched = _watched(config)
    return RoadView(open_view(f"herd {config.name}", console, live=_LiveRoad), console, watched)


def _watched(config: HerdConfig) -> list[Problem]:
    """Questions of the first kinds that it is evaluated by; none for a herd without the starter pack or evaluation."""
    data = config.pretraining.teacher.data
    if data.starter is None or config.evaluation is None:
        return []
    pack = StarterPack.open(concept_share=data.concept_share)
    kinds = config.evaluation.kinds or tuple(PROBLEM_SETS)
    return [problem for kind in kinds[:NUM_WATCHED] for problem in problem_set(kind, pack, 1)]


def road_table(state: HerdState, running_seconds: float = 0.0, note: str = "") -> Table:
    """A line per stage: how it stands, and for how long it has been under way."""
    table = Table.grid(padding=(0, 2))
    for record in state.stages:
        mark, style = MARKS[record.status]
        is_running = record.status == "running"
        seconds = record.seconds + (running_seconds if is_running else 0.0)
        table.add_row(
            Text(mark, style=style),
            Text(record.name, style=style if record.status != "finished" else ""),
            Text(record.status, style="dim"),
            Text("" if record.status == "waiting" else spoken_seconds(seconds), style="dim"),
            Text(note if is_running else "", style="dim"),
        )
    return table
