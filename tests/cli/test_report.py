"""report.html from the metrics of a run."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from camelid.cli.report import Report
from camelid.cli.report_plots import curve, expert_load
from camelid.eval import GalleryItem

StepMaker = Callable[..., Any]


@pytest.fixture
def metrics(step: StepMaker) -> list[dict[str, Any]]:
    return [step(number).to_dict() for number in range(1, 101)]


class Balance(HTMLParser):
    """Open elements, and every address the page refers to."""

    VOID = frozenset({"meta", "img", "br", "use", "path", "rect", "stop"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_stands_alone(metrics: list[dict[str, Any]], items: list[GalleryItem]) -> None:
    report = Report("A run", metrics, items, chat_command="camelid chat runs/x")
    page = report.html()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.addresses, "pictures"
    assert all(address.startswith(("data:image/", "#")) for address in parser.addresses)
    assert "<script" not in page
    assert "@import" not in page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers)), "an id must be unique on a page"


def test_the_page_tells_numbers_questions_and_truths(
    metrics: list[dict[str, Any]], items: list[GalleryItem]
) -> None:
    config = {"model": {"text": {"hidden_size": 192}}, "recipe": "demo"}
    page = Report("A <run>", metrics, items, {"accuracy": "71 %"}, config, {"torch": "2"}).html()
    assert "<h1>A &lt;run&gt;</h1>" in page
    for name, value in (
        ("steps", "100"),
        ("tokens", "100.0k"),
        ("training time", "3:20"),
        ("accuracy", "71 %"),
    ):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page
    assert "What &lt;b&gt;colour&lt;/b&gt; &amp; shape?" in page
    assert "it is: yellow" in page
    assert page.count('<article class="right">') == 1
    assert page.count('<article class="wrong">') == 1
    assert "<th>model.text.hidden_size</th><td>192</td>" in page
    assert page.count("<svg") == 4 + 2 * 2 + 1, (
        "four curves, two heatmaps for each of two layers, and what they tell"
    )


def test_an_empty_run_still_has_a_page() -> None:
    assert "No step was made." in Report("Nothing", []).html()


def test_figures_take_the_ink_of_the_page_and_are_reproducible() -> None:
    drawn = curve([1, 2, 3], [3.0, 2.0, 1.0], "loss")
    assert "var(--ink)" in drawn
    assert "#010203" not in drawn
    assert drawn == curve([1, 2, 3], [3.0, 2.0, 1.0], "loss")
    ET.fromstring(drawn)


def test_a_single_step_can_be_drawn() -> None:
    assert "<svg" in expert_load(np.ones((1, 4)), [1])


def test_experts_tell_nothing_of_a_modality_that_is_the_only_one(metrics: list[dict[str, Any]]) -> None:
    told = "How much an expert tells of the modality"
    assert told in Report("A run", metrics).html()
    for row in metrics:
        row["expert_counts"] = [
            [layer[0], [0] * len(layer[0]), [0] * len(layer[0])] for layer in row["expert_counts"]
        ]
    assert told not in Report("A run", metrics).html()
