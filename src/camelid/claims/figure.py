"""A claim's figure: means with the range over seeds as error bars, as SVG that suits light and dark pages."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from camelid.claims.claim import Evidence

__all__ = ["draw_bars", "draw_curves"]

COLOURS = ("#7c5cff", "#2f9e77", "#e0862f", "#e0457b", "#4f7fd9", "#8a8f9e")
# Stand-ins that are swapped for names of colours, which the style sheet inside the figure gives for both themes.
INK, FAINT = "#010203", "#040506"
THEMES = (
    "<style>svg{--ink:#23262f;--line:#e3e5ec}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6e8ef;--line:#2d313d}}</style>"
)
STYLE: dict[Any, Any] = {"font.size": 9.0, "svg.fonttype": "none", "svg.hashsalt": "camelid"}


def draw_curves(
    evidence: Evidence,
    panels: Mapping[str, str],
    x_label: str,
    *,
    x_base: int | None = None,
    trained_at: float | None = None,
) -> str:
    """One panel per curve name, with its y label: a line for each arm. `x_base` makes x logarithmic."""
    figure, axes = _figure(len(panels))
    for panel, (curve, y_label) in zip(axes, panels.items(), strict=True):
        for arm, colour in zip(evidence.arms, _colours(evidence), strict=True):
            if points := evidence.points(arm, curve):
                means, spread = _means_and_spread(list(points.values()))
                panel.errorbar(
                    list(points), means, spread, label=arm, color=colour, marker="o", ms=3, lw=1.5, capsize=2
                )
        if x_base is not None:
            panel.set_xscale("log", base=x_base)
        if trained_at is not None:
            panel.axvline(trained_at, color=FAINT, linestyle="--", linewidth=1.2, zorder=0)
        panel.set_xlabel(x_label, color=INK)
        panel.set_ylabel(y_label, color=INK)
    return _finish(figure, axes[0])


def draw_bars(evidence: Evidence, panels: Mapping[str, str]) -> str:
    """One panel per number, with its y label: a bar for each arm that has it."""
    figure, axes = _figure(len(panels))
    for panel, (number, y_label) in zip(axes, panels.items(), strict=True):
        for place, (arm, colour) in enumerate(zip(evidence.arms, _colours(evidence), strict=True)):
            values = [
                m.numbers[number] for m in evidence.measurements if m.arm == arm and number in m.numbers
            ]
            if values:
                means, spread = _means_and_spread([values])
                panel.bar(
                    place, means[0], yerr=spread, color=colour, ecolor=INK, capsize=3, label=arm, width=0.7
                )
        panel.set_xticks([])
        panel.set_ylabel(y_label, color=INK)
    return _finish(figure, axes[0])


def _colours(evidence: Evidence) -> Sequence[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(evidence.arms))]


def _means_and_spread(groups: Sequence[Sequence[float]]) -> tuple[list[float], list[list[float]]]:
    """Means, and how far below and above them the lowest and the highest seed lie."""
    means = [statistics.fmean(group) for group in groups]
    below = [max(0.0, mean - min(group)) for mean, group in zip(means, groups, strict=True)]
    above = [max(0.0, max(group) - mean) for mean, group in zip(means, groups, strict=True)]
    return means, [below, above]


def _figure(num_panels: int) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * num_panels, 3.3), layout="constrained")
        axes = [figure.add_subplot(1, num_panels, place + 1) for place in range(num_panels)]
    figure.patch.set_alpha(0.0)
    for panel in axes:
        panel.set_facecolor("none")
        panel.tick_params(colors=INK, which="both", length=0, labelsize=8)
        panel.grid(color=FAINT, linewidth=0.6)
        panel.set_axisbelow(True)
        for name, spine in panel.spines.items():
            spine.set_visible(name == "bottom")
            spine.set_color(FAINT)
    return figure, axes


def _finish(figure: Figure, first: Axes) -> str:
    handles, labels = first.get_legend_handles_labels()
    with mpl.rc_context(STYLE):
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8
        )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "var(--ink)").replace(FAINT, "var(--line)")
    opening = text.index(">") + 1
    return text[:opening] + THEMES + text[opening:]
