"""`camelid experts`: what each expert of a model does, as a table, a figure and files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow.parquet
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from camelid.checkpoint import load_model
from camelid.checkpoint.chat_files import load_chat_format
from camelid.cli.report_plots import expert_maps, standalone
from camelid.core import Batch
from camelid.core.errors import ConfigError
from camelid.core.files import write_text_atomically
from camelid.data.held_out_batches import held_out_batches
from camelid.data.starter import StarterPack
from camelid.infer import locate
from camelid.inputs import ChatFormat
from camelid.model import Llama4
from camelid.train.routing_trace import RoutingTrace, trace_routing
from camelid.train.specialisation import PATCH_NAMES, Specialisation, counts_table, expert_table, measure

__all__ = ["maps_of", "show_experts", "specialisation_tables"]


def show_experts(model: Path | None, out: Path, num_examples: int, earlier: Path | None) -> None:
    """Forward passes over the held-out starter data; writes experts.json, experts.svg and counts.parquet."""
    directory = locate.choose_model(model)
    print(f"model: {directory}", file=sys.stderr)
    loaded = load_model(directory)
    if not loaded.config.text.moe_layers:
        raise ConfigError(f"{directory} has no experts to look at")
    chat_format = load_chat_format(directory, loaded.config)
    assert isinstance(chat_format, ChatFormat), "models with experts talk in Llama 4's format"
    with Console(stderr=True).status("packing"):
        batches = list(held_out_batches(StarterPack.open(), chat_format, num_examples))
    trace = _trace(loaded, batches)
    before = None if earlier is None else _trace(load_model(locate.choose_model(earlier)), batches)
    report = measure(trace, before)
    console = Console()
    for table in specialisation_tables(report):
        console.print(table)
    out.mkdir(parents=True, exist_ok=True)
    write_text_atomically(out / "experts.json", report.to_json() + "\n")
    write_text_atomically(out / "experts.svg", standalone(expert_maps(maps_of(trace), trace.layers)))
    pyarrow.parquet.write_table(counts_table(trace), out / "counts.parquet")
    files = ", ".join(str(out / name) for name in ("experts.svg", "experts.json", "counts.parquet"))
    console.print(f"written: {files}", markup=False, highlight=False, soft_wrap=True)


def _trace(model: Llama4, batches: Sequence[Batch]) -> RoutingTrace:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        total = sum(batch.num_tokens for batch in batches)
        task = progress.add_task(f"reading {total:,} tokens", total=total)
        return trace_routing(model, batches, lambda count: progress.advance(task, count))


def maps_of(trace: RoutingTrace) -> dict[str, list[list[float]]]:
    """By modality, kind of token and source: [layers][experts], as multiples of a fair share of its tokens."""
    names = {"modality": trace.modality_names, "patch": PATCH_NAMES, "domain": trace.source_names}
    maps: dict[str, list[list[float]]] = {}
    for attribute, values in names.items():
        tables = [expert_table(trace, attribute, row).double() for row in range(len(trace.layers))]
        for index, value in enumerate(values):
            rows = [table[index] for table in tables if index < len(table)]
            if rows and all(row.sum() > 0 for row in rows):
                title = value if attribute != "domain" else f"source: {value}"
                maps[title] = [(row / row.mean()).tolist() for row in rows]
    return maps


def specialisation_tables(report: Specialisation) -> Iterable[Table]:
    """Load, then information, a row per layer.

    `guessed` is how often the expert in the layer before gives this one away, `blindly` how often it is guessed
    without; `kept` are choices that an earlier checkpoint made alike.
    """
    load = Table(
        title=f"{report.num_experts} experts over {report.num_tokens:,} tokens of {report.num_documents:,} documents",
        title_justify="left",
    )
    load.add_column("layer", justify="right")
    for name in ("most", "least", "MaxVio", "dead", "score", "guessed", "blindly", "kept"):
        load.add_column(name, justify="right")
    told = Table(title="what an expert tells, as a share of what there is to know", title_justify="left")
    told.add_column("layer", justify="right")
    for name in report.layers[0].information:
        told.add_column(name, justify="right")
    told.add_column("token of expert", justify="right")
    for row in report.layers:
        mean_score = sum(share * gate for share, gate in zip(row.loads, row.gate_mean, strict=True))
        load.add_row(
            str(row.layer),
            f"{max(row.loads) * report.num_experts:.2f}×",
            f"{min(row.loads) * report.num_experts:.2f}×",
            f"{row.max_vio:.2f}",
            str(row.num_dead),
            f"{mean_score:.2f}",
            *(
                "–" if x is None else f"{x:.0%}"
                for x in (row.from_layer_before, row.guessed_blindly, row.saturation)
            ),
        )
        told.add_row(
            str(row.layer),
            *(f"{found.of_attribute:.3f}" for found in row.information.values()),
            f"{row.information['token'].of_choice:.3f}",
        )
    return load, told
