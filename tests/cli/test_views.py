"""The live view, its plain twin, and what they are made of."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from rich.text import Text

from camelid.cli.live_view import LiveView, PlainView, open_view
from camelid.cli.sparkline import sparkline
from camelid.cli.thumbnail import Thumbnail
from camelid.cli.training_record import TrainingRecord, spoken_seconds
from camelid.eval import GalleryItem

StepMaker = Callable[..., Any]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(*, width: int = 100, is_terminal: bool = True) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        height=40,
        force_terminal=is_terminal,
        color_system="truecolor" if is_terminal else None,
        _environ={},
    )


def shown(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def test_sparkline_goes_from_lowest_to_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 8, 8], 2) == "▁█"
    assert sparkline([1.0, math.nan, 2.0], 3) == "▁ █"
    assert sparkline([], 5) == ""
    assert sparkline([3.0], 1, 0.0, 2.0) == "█"


@pytest.mark.parametrize(
    ("seconds", "spoken"), [(None, "–:––"), (0, "0:00"), (187.4, "3:07"), (3753, "1:02:33"), (-1, "0:00")]
)
def test_durations_are_spoken(seconds: float | None, spoken: str) -> None:
    assert spoken_seconds(seconds) == spoken


def test_record_counts_throughput_load_and_time_left(step: StepMaker) -> None:
    clock = Clock()
    record = TrainingRecord(clock)
    assert record.seconds_left is None
    for number in (1, 2, 3):
        record.add(step(number))
        clock.now += 2.0
    assert record.tokens_per_second == pytest.approx(500)
    assert record.tiles_per_second == pytest.approx(10)
    assert len(record.losses["video"]) == 2, "a step without a clip says nothing about clips"
    assert record.expert_shares[0] == pytest.approx([35 / 17.5, 5 / 17.5, 15 / 17.5, 15 / 17.5])


def test_time_left_counts_from_where_this_process_started(step: StepMaker) -> None:
    clock = Clock()
    record = TrainingRecord(clock)
    record.add(step(50))  # a resumed run
    clock.now += 10.0
    record.add(step(60))
    # 2 seconds for the first step, then 10: a tenth of the way, four tenths to go.
    assert record.seconds_left == pytest.approx(48.0)


def test_live_view_shows_the_state_and_the_answers(step: StepMaker, items: list[GalleryItem]) -> None:
    target = console()
    view = LiveView("demo", target, Clock())
    with view:
        view.step(step(1))
        view.step(step(2, num_skipped_examples=3))
        view.answers(items, "asked at step 2")
    text = Text.from_ansi(shown(target)).plain
    for expected in (
        "demo",
        "step 2",
        "2%",
        "text loss",
        "500 tokens/s",
        "MoE layer 1",
        "3 examples skipped",
    ):
        assert expected in text
    assert "✓ a face" in text
    assert "it is: yellow" in text
    assert "▀" in text


def test_plain_view_prints_a_line_every_few_seconds(step: StepMaker, items: list[GalleryItem]) -> None:
    target, clock = console(is_terminal=False), Clock()
    with PlainView("demo", target, 5.0, clock) as view:
        for number in range(1, 8):
            view.step(step(number))
            clock.now += 2.0
        view.answers(items, "asked")
    lines = shown(target).splitlines()
    assert [line.split(" · ")[0] for line in lines if line.startswith("step")] == [
        "step 1",
        "step 4",
        "step 7",
        "step 7",
    ]
    assert "\x1b" not in shown(target)
    assert any("'blue' (wrong, it is 'yellow')" in line for line in lines)


def test_a_terminal_gets_the_live_view_and_a_pipe_or_ci_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert isinstance(open_view("demo", console()), LiveView)
    assert isinstance(open_view("demo", console(is_terminal=False)), PlainView)
    monkeypatch.setenv("CI", "true")
    assert isinstance(open_view("demo", console()), PlainView)


def test_thumbnail_draws_two_pixels_per_cell() -> None:
    image = Image.new("RGB", (4, 4), "red")
    image.paste((0, 0, 255), (0, 2, 4, 4))
    target = console()
    target.print(Thumbnail(image, rows=2))
    rows = shown(target).splitlines()
    assert len(rows) == 2
    assert rows[0].count("▀") == 4
    assert "38;2;255;0;0;48;2;255;0;0" in rows[0]
    assert "38;2;0;0;255;48;2;0;0;255" in rows[1]


def test_thumbnail_stays_inside_its_columns() -> None:
    assert Thumbnail(Image.new("RGB", (400, 50)), rows=8, max_columns=30).strip.width == 30
    stills = [Image.new("RGB", (10, 10), (index, 0, 0)) for index in range(8)]
    strip = Thumbnail(stills, rows=4, max_columns=26).strip
    assert strip.width == 26, "three stills of eight columns and two gaps"
    assert [strip.getpixel((left, 0)) for left in (0, 9, 18)] == [(0, 0, 0), (2, 0, 0), (5, 0, 0)]


def test_thumbnail_without_colours_is_a_word() -> None:
    target = console(is_terminal=False)
    target.print(Thumbnail(Image.new("RGB", (8, 8))))
    assert shown(target) == "[picture]\n"
