"""`report.html`: one self-contained page about a run, for a browser or a phone, in light and dark."""

from __future__ import annotations

import base64
import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from camelid.cli.report_plots import curve, expert_load, experts_by_modality, layer_curves, loss_curves
from camelid.cli.report_style import STYLE_SHEET
from camelid.cli.training_record import spoken_seconds
from camelid.core import MODALITIES
from camelid.eval import GalleryItem
from camelid.train.specialisation import entropy, mutual_information

__all__ = [
    "Report",
    "figure",
    "flat",
    "folded",
    "loss_series",
    "modality_maps",
    "numbers_list",
    "page",
    "pictures",
    "section",
    "short_number",
    "table",
]

LAST_SHARE = 0.2  # of the run, for numbers that describe its end
MAX_TELLING_POINTS = 60
Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """What the page tells. `metrics` are the rows of metrics.jsonl; the mappings are shown as they are."""

    title: str
    metrics: Sequence[Metrics]
    gallery: Sequence[GalleryItem] = ()
    summary: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    chat_command: str = ""

    def html(self) -> str:
        """The whole page: no script, no other file, nothing from the network."""
        sections = [
            section("What it says about what it has never seen", _gallery(self.gallery)),
            section("Learning", _learning(self.metrics)),
            *_teaching(self.metrics),
            section("Experts", _experts(self.metrics)),
            section("Configuration", folded(self.config)),
            section("Environment", table(flat(self.environment))),
        ]
        command = f"<p>Talk to it: <code>{_escape(self.chat_command)}</code></p>" if self.chat_command else ""
        return page(self.title, f"{numbers_list(self._numbers())}{command}", sections)

    def write(self, path: Path) -> None:
        """Writes the page."""
        path.write_text(self.html(), encoding="utf-8")

    def _numbers(self) -> dict[str, str]:
        numbers: dict[str, str] = {}
        if self.metrics:
            seconds = sum(row["seconds"] for row in self.metrics)
            tokens = sum(row["num_tokens"] for row in self.metrics)
            numbers["steps"] = f"{self.metrics[-1]['step']:,}"
            numbers["tokens"] = short_number(tokens)
            numbers["tiles"] = short_number(sum(row["num_tiles"] for row in self.metrics))
            numbers["training time"] = spoken_seconds(seconds)
            numbers["tokens per second"] = f"{tokens / max(seconds, 1e-9):,.0f}"
            for modality, (_, losses) in loss_series(self.metrics).items():
                numbers[f"{modality} loss, end"] = f"{_mean_of_end(losses):.3f}"
        if self.gallery:
            num_right = sum(item.is_right for item in self.gallery)
            numbers["right answers below"] = f"{num_right} of {len(self.gallery)}"
        return numbers | dict(self.summary)


def page(title: str, header: str, sections: Sequence[str], style: str = "") -> str:
    """One HTML file of a title, what stands below it, and sections; `style` comes after the house's."""
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escape(title)}</title><style>{STYLE_SHEET}{style}</style></head><body>"
        f"<header><h1>{_escape(title)}</h1>{header}</header>"
        f"<main>{''.join(sections)}</main></body></html>\n"
    )


def loss_series(metrics: Sequence[Metrics]) -> dict[str, tuple[list[int], list[float]]]:
    """Per modality the steps that had it and their losses."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for modality in MODALITIES:
        pairs = [
            (row["step"], loss)
            for row in metrics
            if (loss := row["loss_by_modality"].get(modality)) is not None and math.isfinite(loss)
        ]
        if pairs:
            series[modality] = ([step for step, _ in pairs], [loss for _, loss in pairs])
    return series


def _mean_of_end(values: Sequence[float]) -> float:
    end = values[-max(1, int(len(values) * LAST_SHARE / 2)) :]
    return sum(end) / len(end)


def _learning(metrics: Sequence[Metrics]) -> str:
    if not metrics:
        return "<p>No step was made.</p>"
    series = loss_series(metrics)
    metrics = [row for row in metrics if not row.get("is_skipped")]
    steps = [row["step"] for row in metrics]
    by_modality = figure(
        "Loss per modality",
        loss_curves(
            {name: pair[0] for name, pair in series.items()},
            {name: pair[1] for name, pair in series.items()},
        ),
        is_wide=True,
    )
    figures = [
        *([by_modality] if series else []),
        *_told_by_stage(metrics),
        figure("Learning rate", curve(steps, [row["lr"] for row in metrics], "learning rate")),
        figure("Gradient norm", curve(steps, [row["grad_norm"] for row in metrics], "norm before clipping")),
        figure(
            "Throughput",
            curve(
                steps, [row["num_tokens"] / max(row["seconds"], 1e-9) for row in metrics], "tokens per second"
            ),
        ),
    ]
    return f'<div class="grid">{"".join(figures)}</div>'


def _teaching(metrics: Sequence[Metrics]) -> list[str]:
    """What a student had from its teacher; nothing in a run without one."""
    taught = [row for row in metrics if row.get("distill")]
    if not taught:
        return []
    shown = {
        "soft_weight": ("The teacher's part of the loss", "part"),
        "kl": ("KL from teacher to student", "nats per token"),
        "teacher_loss": ("The teacher's own loss on the same batches", "nats per token"),
    }
    figures = []
    for name, (caption, label) in shown.items():
        values: dict[str, list[tuple[int, float]]] = {
            modality: [
                (row["step"], row["distill"][name][modality])
                for row in taught
                if modality in row["distill"][name]
            ]
            for modality in MODALITIES
        }
        pairs = {modality: list(zip(*rows, strict=True)) for modality, rows in values.items() if rows}
        steps, lines = ({modality: pair[side] for modality, pair in pairs.items()} for side in (0, 1))
        figures.append(figure(caption, loss_curves(steps, lines, label), is_wide=True))
    return [section("Teacher", f'<div class="grid">{"".join(figures)}</div>')]


def _told_by_stage(metrics: Sequence[Metrics]) -> list[str]:
    """A figure for every number that a stage tells besides losses."""
    told: dict[str, tuple[list[int], list[float]]] = {}
    for row in metrics:
        for name, value in row.get("numbers", {}).items():
            if value is not None:
                steps, values = told.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return [figure(name.replace("_", " "), curve(*pair, name)) for name, pair in told.items()]


def _experts(metrics: Sequence[Metrics]) -> str:
    counted = [row for row in metrics if row.get("expert_counts")]
    if not counted:
        return "<p>This model has no experts.</p>"
    counts = np.array([row["expert_counts"] for row in counted], dtype=np.float64)
    steps = [row["step"] for row in counted]
    over_time = [
        figure(f"MoE layer {layer}", expert_load(_fair_multiples(counts[:, layer].sum(axis=1)), steps))
        for layer in range(counts.shape[1])
    ]
    return (
        "<h3>How busy each expert was</h3><p>As a multiple of a fair share of the tokens: "
        "1× is balance, pale is idle.</p>"
        f'<div class="grid">{"".join(over_time)}</div>'
        f"<h3>Which experts each modality uses</h3><p>Over the last {LAST_SHARE:.0%} of the run. Equal rows mean "
        "experts that do not care what they read.</p>"
        f'<div class="grid">{"".join(modality_maps(metrics))}</div>{_telling(counts, steps)}'
    )


def modality_maps(metrics: Sequence[Metrics], name: str = "MoE layer") -> list[str]:
    """A figure per layer: which experts each modality used over the end of a run, as multiples of a fair share."""
    counts = np.array([row["expert_counts"] for row in metrics if row.get("expert_counts")], dtype=np.float64)
    end = counts[-max(1, int(len(counts) * LAST_SHARE)) :].sum(axis=0)
    return [
        figure(f"{name} {layer}", experts_by_modality(_fair_multiples(loads), MODALITIES))
        for layer, loads in enumerate(end)
    ]


def _telling(counts: Float[np.ndarray, "steps layers modalities experts"], steps: Sequence[int]) -> str:
    """How much an expert gives away of its document's modality, over the run; nothing if there is but one."""
    pieces = np.array_split(np.arange(len(steps)), min(MAX_TELLING_POINTS, len(steps)))
    at = [steps[piece[-1]] for piece in pieces]
    tables = torch.from_numpy(np.stack([counts[piece].sum(axis=0) for piece in pieces])).long()
    if (tables.sum((1, 3)) > 0).sum(1).min() < 2:
        return ""
    curves = {
        f"layer {layer}": [mutual_information(table) / entropy(table.sum(1)) for table in tables[:, layer]]
        for layer in range(counts.shape[1])
    }
    over_run = figure("Over the run", layer_curves(at, curves, "I / H"), is_wide=True)
    return (
        "<h3>How much an expert tells of the modality</h3><p>Mutual information over the modality's entropy: 0 is an "
        "expert that does not care, 1 one that reads nothing else. <code>camelid experts</code> tells more.</p>"
        f'<div class="grid">{over_run}</div>'
    )


def _fair_multiples(counts: Float[np.ndarray, "rows experts"]) -> Float[np.ndarray, "rows experts"]:
    """Each row scaled so that an even spread is 1; rows without tokens stay 0."""
    fair = counts.mean(axis=1, keepdims=True)
    return counts / np.where(fair > 0, fair, 1.0)


def _gallery(items: Sequence[GalleryItem]) -> str:
    if not items:
        return "<p>Nothing was asked.</p>"
    right = Counter(item.kind for item in items if item.is_right)
    asked = Counter(item.kind for item in items)
    counts = {kind: f"{right[kind]} of {number}" for kind, number in asked.items()}
    return f'{table(counts.items())}<div class="cards">{"".join(map(_card, items))}</div>'


def _card(item: GalleryItem) -> str:
    mark, word = ("✓", "right") if item.is_right else ("✗", "wrong")
    truth = "" if item.is_right else f'<p class="truth">it is: {_escape(item.truth)}</p>'
    return (
        f'<article class="{word}">{pictures(item)}'
        f'<p class="kind">{_escape(item.kind)}</p><p class="question">{_escape(item.question)}</p>'
        f'<p class="answer"><span title="{word}">{mark}</span> {_escape(item.answer) or "(nothing)"}</p>'
        f"{truth}</article>"
    )


def pictures(item: GalleryItem) -> str:
    """What was asked about, within the page."""
    images = (f'<img alt="" src="{_data_uri(visual)}">' for visual in item.visuals)
    return f'<div class="pictures">{"".join(images)}</div>'


def _data_uri(visual: bytes) -> str:
    media_type = "image/png" if visual.startswith(b"\x89PNG") else "image/webp"
    return f"data:{media_type};base64,{base64.b64encode(visual).decode()}"


def numbers_list(numbers: Mapping[str, str]) -> str:
    """Headline numbers, each with its name."""
    tiles = (
        f"<div><dt>{_escape(name)}</dt><dd>{_escape(value)}</dd></div>" for name, value in numbers.items()
    )
    return f'<dl class="numbers">{"".join(tiles)}</dl>'


def figure(caption: str, svg: str, *, is_wide: bool = False) -> str:
    """A figure with its caption."""
    return (
        f"<figure{' class=wide' if is_wide else ''}><figcaption>{_escape(caption)}</figcaption>{svg}</figure>"
    )


def section(title: str, body: str) -> str:
    """A part of the page with its heading."""
    return f"<section><h2>{_escape(title)}</h2>{body}</section>"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, escaped."""
    cells = (f"<tr><th>{_escape(name)}</th><td>{_escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table>{"".join(cells)}</table></div>'


def folded(values: Mapping[str, Any]) -> str:
    """Nested mappings as a table that opens on demand."""
    rows = list(flat(values))
    return f"<details><summary>{len(rows)} values</summary>{table(rows)}</details>"


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested mappings as dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
            )


def short_number(number: float) -> str:
    """A count as 12.3k, 4.5M or 6.7B."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if unit == 'k' else limit):.1f}{unit}"
    return f"{number:,.0f}"


def _escape(text: str) -> str:
    return html.escape(text)
