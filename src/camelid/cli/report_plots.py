"""The report's figures as SVG text that takes its ink from the page, so that one file suits light and dark."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = [
    "MODALITY_COLOURS",
    "curve",
    "expert_load",
    "expert_maps",
    "experts_by_modality",
    "layer_curves",
    "loss_curves",
    "standalone",
]

MODALITY_COLOURS = {"text": "#4f7fd9", "image": "#e0862f", "video": "#2f9e77"}
ACCENT = "#7c5cff"
# Stand-ins that are swapped for the page's own colours once the SVG is written.
INK, FAINT = "#010203", "#040506"
PAGE_COLOURS = {INK: "var(--ink)", FAINT: "var(--line)"}
HEAT = LinearSegmentedColormap.from_list("heat", ["#7c5cff08", "#7c5cffb0", "#e0457b"])
MAX_LOAD = 3.0  # times the fair share; above it everything is equally alarming
NUM_BINS = 80
MAPS_A_ROW = 4
# For a file of its own, which no page lends its colours.
OWN_COLOURS = (
    "<style>svg{--ink:#23262f;--line:#e3e5ec;background:#ffffff;font-family:system-ui,sans-serif}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6e8ef;--line:#2d313d;background:#1c1f27}}</style>"
)
# The text stays text, and equal data give equal bytes.
STYLE: dict[Any, Any] = {"font.size": 9.0, "svg.fonttype": "none", "svg.hashsalt": "camelid"}


def loss_curves(
    steps: Mapping[str, Sequence[int]],
    losses: Mapping[str, Sequence[float]],
    label: str = "nats per token",
) -> str:
    """One smoothed line per modality over its own steps, the raw values faint behind it."""
    figure, axes = _figure(6.4, 3.2, "step", label)
    for modality, values in losses.items():
        colour = MODALITY_COLOURS.get(modality, ACCENT)
        _line(axes, steps[modality], values, colour, label=modality)
    axes.set_ylim(bottom=0.0)
    if losses:
        axes.legend(frameon=False, labelcolor=INK, ncols=3, loc="upper right", handlelength=1.2)
    return _svg(figure)


def curve(steps: Sequence[int], values: Sequence[float], label: str) -> str:
    """One quantity over the steps, smoothed, the raw values faint behind it."""
    figure, axes = _figure(3.0, 2.0, "step", label)
    _line(axes, steps, values, ACCENT)
    axes.set_ylim(bottom=0.0)
    return _svg(figure)


def expert_load(loads: Float[np.ndarray, "steps experts"], steps: Sequence[int]) -> str:
    """How busy each expert of one layer was over training, as a multiple of its fair share."""
    figure, axes = _figure(3.0, 2.0, "step", "expert")
    extent = (steps[0], max(steps[-1], steps[0] + 1), loads.shape[1] - 0.5, -0.5)
    _heatmap(axes, _binned(loads).T, extent)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return _svg(figure)


def experts_by_modality(loads: Float[np.ndarray, "modalities experts"], modalities: Sequence[str]) -> str:
    """Which experts of one layer each kind of document uses, as a multiple of a fair share."""
    figure, axes = _figure(3.0, 1.4, "expert", "")
    _heatmap(axes, loads)
    axes.set_yticks(range(len(modalities)), list(modalities))
    return _svg(figure)


def expert_maps(maps: Mapping[str, Sequence[Sequence[float]]], layers: Sequence[int]) -> str:
    """A map of layers and experts for each kind of input: how often it meets an expert, over a fair share."""
    num_rows = -(-len(maps) // MAPS_A_ROW)
    width, height = 2.2 * MAPS_A_ROW + 0.8, (0.95 + 0.12 * min(len(layers), 24)) * num_rows + 0.35
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0.0)
    with mpl.rc_context(STYLE):
        grid = figure.subplots(num_rows, MAPS_A_ROW, squeeze=False)
    figure.subplots_adjust(
        left=0.55 / width,
        right=1 - 0.75 / width,
        bottom=0.5 / height,
        top=1 - 0.3 / height,
        hspace=0.75,
        wspace=0.2,
    )
    ticks = sorted({0, len(layers) // 2, len(layers) - 1})
    for place, axes in enumerate(grid.flat):
        if place >= len(maps):
            axes.set_visible(False)
            continue
        title = list(maps)[place]
        image = axes.imshow(
            np.asarray(maps[title]),
            cmap=HEAT,
            vmin=0.0,
            vmax=MAX_LOAD,
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_facecolor("none")  # idle experts are transparent, whatever the page
        axes.set_title(title, color=INK, fontsize=9, loc="left", pad=4)
        axes.tick_params(colors=INK, length=0, labelsize=8)
        axes.set_yticks(ticks, [str(layers[tick]) for tick in ticks])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.spines[:].set_color(FAINT)
        if place % MAPS_A_ROW == 0:
            axes.set_ylabel("layer", color=INK)
        if place + MAPS_A_ROW >= len(maps):
            axes.set_xlabel("expert", color=INK)
    side = figure.add_axes((1 - 0.6 / width, 0.5 / height, 0.12 / width, 1 - 0.8 / height))
    bar = figure.colorbar(image, cax=side, ticks=[0, 1, 2, 3], format="%d×")
    bar.outline.set_visible(False)
    side.set_facecolor("none")
    side.tick_params(colors=INK, length=0, labelsize=8)
    return _svg(figure)


def layer_curves(steps: Sequence[int], by_layer: Mapping[str, Sequence[float]], label: str) -> str:
    """One smoothed line per layer over the steps, the deeper the redder."""
    figure, axes = _figure(6.4, 2.4, "step", label)
    deep = LinearSegmentedColormap.from_list("deep", [ACCENT, "#e0457b"])
    for place, (name, values) in enumerate(by_layer.items()):
        _line(axes, steps, values, to_hex(deep(place / max(len(by_layer) - 1, 1))), label=name)
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False, labelcolor=INK, ncols=4, loc="upper left", handlelength=1.2, fontsize=8)
    return _svg(figure)


def standalone(svg: str) -> str:
    """A figure as a file of its own, with colours for light and dark."""
    end = svg.index(">") + 1
    return svg[:end] + OWN_COLOURS + svg[end:]


def _figure(width: float, height: float, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """Sizes in inches; nothing but a base line and a faint grid around what is drawn."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        # Inches for labels; matplotlib's own layout finds the same at three times the cost of everything else.
        figure.subplots_adjust(
            left=0.62 / width, right=1 - 0.1 / width, bottom=0.46 / height, top=1 - 0.08 / height
        )
        axes = figure.add_subplot()
        axes.set_xlabel(x_label, color=INK)
        axes.set_ylabel(y_label, color=INK)
    figure.patch.set_alpha(0.0)
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, length=0, labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    return figure, axes


def _line(axes: Axes, steps: Sequence[int], values: Sequence[float], colour: str, label: str = "") -> None:
    axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.7)
    axes.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=label)


def _heatmap(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    image = axes.imshow(
        values, cmap=HEAT, vmin=0.0, vmax=MAX_LOAD, aspect="auto", interpolation="nearest", extent=extent
    )
    axes.grid(visible=False)
    figure = axes.figure
    assert isinstance(figure, Figure)
    bar = figure.colorbar(
        image, ax=axes, ticks=[0, 1, 2, 3], format="%d×", pad=0.03, fraction=0.07, aspect=12
    )
    bar.outline.set_visible(False)
    bar.ax.set_facecolor("none")
    bar.ax.tick_params(colors=INK, length=0, labelsize=7)


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean over neighbours on both sides, a fortieth of the run in all; fewer at the ends."""
    reach = len(values) // 80
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centres = np.arange(len(values))
    low, high = np.maximum(centres - reach, 0), np.minimum(centres + reach + 1, len(values))
    means: list[float] = ((sums[high] - sums[low]) / (high - low)).tolist()
    return means


def _binned(loads: Float[np.ndarray, "steps experts"]) -> Float[np.ndarray, "bins experts"]:
    """Means over neighbouring steps, so that a long run has no more columns than a short one."""
    pieces = np.array_split(loads, min(NUM_BINS, len(loads)))
    return np.stack([piece.mean(axis=0) for piece in pieces])


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, colour in PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    # Several figures share one page, where an id must be unique.
    prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}", text)
