"""Watching a model learn: a live panel in a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from camelid.cli.sparkline import sparkline
from camelid.cli.thumbnail import Thumbnail
from camelid.cli.training_record import TrainingRecord, spoken_seconds
from camelid.eval import GalleryItem
from camelid.train.step import StepMetrics

__all__ = ["LiveView", "PlainView", "TrainingView", "gallery_card", "open_view"]

COLOURS = {"text": "blue", "image": "dark_orange", "video": "green"}
OVERLOADED, IDLE = 2.0, 0.25
CARD_WIDTH, CARD_ROWS = 36, 9
SECONDS_BETWEEN_LINES = 5.0


class TrainingView(Protocol):
    """What a training run is shown on. A context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def turn_to(self, title: str) -> None:
        """Shows from now on the run of this title, with all that was shown of it before."""
        ...

    def step(self, metrics: StepMetrics) -> None:
        """Shows one more step."""
        ...

    def answers(self, items: Sequence[GalleryItem], title: str) -> None:
        """Shows what the model says now."""
        ...


class LiveView:
    """A panel that redraws itself: progress, losses, throughput, expert load, and the latest answers."""

    def __init__(self, title: str, console: Console, clock: Callable[[], float] = monotonic) -> None:
        self.title = title
        self.record = TrainingRecord(clock)
        self._records = {title: self.record}
        self._console = console
        self._items: Sequence[GalleryItem] = ()
        self._items_title = ""
        self._live = Live(
            get_renderable=self.render, console=console, refresh_per_second=2, vertical_overflow="crop"
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def turn_to(self, title: str) -> None:
        """Another run's panel in the same place."""
        self.title = title
        self.record = self._records.setdefault(title, TrainingRecord(self.record.clock))

    def step(self, metrics: StepMetrics) -> None:
        """Shows one more step."""
        self.record.add(metrics)

    def answers(self, items: Sequence[GalleryItem], title: str) -> None:
        """Replaces the cards below the panel."""
        self._items, self._items_title = items, title
        self._live.refresh()

    def render(self) -> RenderableType:
        """The panel and the cards as they are now."""
        record = self.record
        body = Group(
            _progress_line(record),
            Text(),
            _loss_table(record, max(16, self._console.width - 30)),
            *([_stage_table(record, max(16, self._console.width - 42))] if record.numbers else []),
            Text(),
            _numbers_line(record),
            *([Text(), _expert_table(record)] if record.expert_shares else []),
        )
        panel = Panel(body, title=f"[bold]{self.title}[/]", title_align="left", padding=(0, 1))
        if not self._items:
            return panel
        width = max(24, min(CARD_WIDTH, self._console.width // len(self._items) - 1))
        rows = max(4, min(CARD_ROWS, self._console.height - 2 * CARD_ROWS - 4))
        cards = Columns([gallery_card(item, width, rows) for item in self._items], padding=(0, 1))
        return Group(panel, Text(self._items_title, style="bold"), cards)


class PlainView:
    """One line every few seconds."""

    def __init__(
        self,
        title: str,
        console: Console,
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.title = title
        self.record = TrainingRecord(clock)
        self._records = {title: self.record}
        self._console = console
        self._clock = clock
        self._pause = seconds_between_lines
        self._last = float("-inf")

    def __enter__(self) -> Self:
        self._print(self.title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.record.step:
            self._print(self.line())

    def turn_to(self, title: str) -> None:
        """Its title on a line, and a line about its next step at once."""
        if title == self.title:
            return
        self.title, self._last = title, float("-inf")
        self.record = self._records.setdefault(title, TrainingRecord(self._clock))
        self._print(title)

    def step(self, metrics: StepMetrics) -> None:
        """Prints a line if the last one is some seconds old."""
        self.record.add(metrics)
        if self._clock() - self._last >= self._pause:
            self._last = self._clock()
            self._print(self.line())

    def answers(self, items: Sequence[GalleryItem], title: str) -> None:
        """Prints a line per answer."""
        self._print(title)
        for item in items:
            mark = "right" if item.is_right else f"wrong, it is {item.truth!r}"
            self._print(f"  [{item.kind}] {item.question} -> {item.answer!r} ({mark})")

    def line(self) -> str:
        """The state as one line."""
        record = self.record
        told = [f"{name} {record.recent_loss(name):.3f}" for name in record.losses]
        told += [f"{name} {values[-1]:.3g}" for name, values in record.numbers.items()]
        return (
            f"step {record.step} · {record.progress:.0%} · loss {record.loss:.3f} ({' '.join(told)}) · "
            f"{record.tokens_per_second:,.0f} tokens/s · {record.tiles_per_second:,.1f} tiles/s · "
            f"lr {record.lr:.2e} · {spoken_seconds(record.seconds_left)} left"
            + (f" · {teaching}" if (teaching := record.spoken_teaching()) else "")
            + (f" · {record.num_skipped_examples} examples skipped" if record.num_skipped_examples else "")
            + (f" · {record.num_skipped_steps} steps skipped" if record.num_skipped_steps else "")
        )

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def open_view(title: str, console: Console | None = None, *, live: type[LiveView] = LiveView) -> TrainingView:
    """The live panel where somebody can watch it, plain lines where not (no terminal, or CI)."""
    console = console or Console()
    if console.is_terminal and not os.environ.get("CI"):
        return live(title, console)
    return PlainView(title, console)


def gallery_card(item: GalleryItem, width: int = CARD_WIDTH, rows: int = CARD_ROWS) -> RenderableType:
    """Picture, question, answer; the truth where the answer is wrong."""
    images = item.images()
    lines: list[RenderableType] = []
    if images:
        lines.append(Thumbnail(images, rows if len(images) == 1 else rows * 2 // 3, max_columns=width - 4))
    lines.append(Text(item.question, style="dim"))
    answer = Text.assemble(
        ("✓ ", "bold green") if item.is_right else ("✗ ", "bold red"), item.answer or "(nothing)"
    )
    lines.append(answer)
    if not item.is_right:
        lines.append(Text(f"  it is: {item.truth}", style="dim"))
    border = "green" if item.is_right else "red"
    return Panel(Group(*lines), title=item.kind, title_align="left", width=width, border_style=border)


def _progress_line(record: TrainingRecord) -> RenderableType:
    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(ratio=1)
    for _ in range(3):
        line.add_column(justify="right", no_wrap=True)
    line.add_row(
        ProgressBar(total=1.0, completed=record.progress, complete_style="cyan", finished_style="cyan"),
        f"[bold]{record.progress:4.0%}[/]",
        f"step {record.step:,}",
        f"{spoken_seconds(record.seconds_left)} left",
    )
    return line


def _loss_table(record: TrainingRecord, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    if not record.losses and not record.numbers:
        return Text("waiting for the first step …", style="dim")
    for modality, history in record.losses.items():
        colour = COLOURS.get(modality, "white")
        table.add_row(
            Text(f"{modality} loss", style=colour),
            Text(f"{record.recent_loss(modality):.3f}", style="bold"),
            Text(sparkline(history, width), style=colour),
        )
    return table


def _stage_table(record: TrainingRecord, width: int) -> RenderableType:
    """What a stage tells besides losses: the last value and the history of each number."""
    table = Table.grid(padding=(0, 2))
    for name, history in record.numbers.items():
        table.add_row(
            name.replace("_", " "), Text(f"{history[-1]:.3g}", style="bold"), sparkline(history, width)
        )
    return table


def _numbers_line(record: TrainingRecord) -> RenderableType:
    parts = [
        f"[bold]{record.tokens_per_second:,.0f}[/] tokens/s",
        f"[bold]{record.tiles_per_second:,.1f}[/] tiles/s",
        f"lr {record.lr:.2e}",
        f"gradient {record.grad_norm:.2f}",
    ]
    if teaching := record.spoken_teaching():
        parts.append(teaching)
    if record.num_skipped_examples:
        parts.append(f"[yellow]{record.num_skipped_examples} examples skipped[/]")
    if record.num_skipped_steps:
        parts.append(f"[red]{record.num_skipped_steps} steps without a finite loss[/]")
    return Text.from_markup("  ·  ".join(parts))


def _expert_table(record: TrainingRecord) -> RenderableType:
    """Bars from none to twice the fair share; red above that, yellow for experts that hardly work."""
    table = Table.grid(padding=(0, 2))
    for layer, shares in enumerate(record.expert_shares):
        bars = Text()
        for share in shares:
            style = "red" if share > OVERLOADED else "yellow" if share < IDLE else "cyan"
            bars.append(sparkline([share], 1, 0.0, OVERLOADED), style=style)
        table.add_row(
            Text("experts" if layer == 0 else "", style="dim"),
            Text(f"MoE layer {layer}", style="dim"),
            bars,
            Text(f"busiest {max(shares):.1f}× fair", style="dim"),
        )
    return table
