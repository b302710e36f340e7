"""The coordinate check as a figure and numbers: activations against width, with and without `metap`.

python scripts/coordinate_check.py [--out coordinate-check] [--widths 64 128 256 512] [--kind adamw muon]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from camelid.core import Batch, ModelInput
from camelid.data.starter import StarterPack
from camelid.model import Llama4Config, TextConfig
from camelid.train import OptimizerConfig
from camelid.train.coordinate_check import coordinate_check, growth
from camelid.train.metap import MetaPConfig

__all__ = ["at_width", "byte_batches"]

NUM_STEPS, DOCUMENT_BYTES = 10, 256


def at_width(width: int) -> Llama4Config:
    """Two MoE layers of 4 experts over bytes, one chunked, one global; heads of 16, experts as wide as the stream."""
    return Llama4Config(
        TextConfig(
            vocab_size=256,
            hidden_size=width,
            num_attention_heads=width // 16,
            num_key_value_heads=max(1, width // 32),
            head_dim=16,
            intermediate_size=width,
            intermediate_size_mlp=2 * width,
            num_local_experts=4,
            layer_types=("chunked", "global"),
            moe_layers=(0, 1),
            attention_chunk_size=64,
            floor_scale=64,
        )
    )


def byte_batches(count: int, documents: int) -> list[Batch]:
    """Pieces of the starter pack's prose, as bytes; none comes twice."""
    text = b"\n".join(chapter.text.encode() for chapter in StarterPack.open().prose("train"))
    ids = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    pieces = ids[: len(ids) // DOCUMENT_BYTES * DOCUMENT_BYTES].view(-1, DOCUMENT_BYTES)
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))[: count * documents]
    return [
        Batch.pack([ModelInput.of_text(pieces[int(number)]) for number in numbers])
        for numbers in order.view(count, documents)
    ]


def main() -> None:
    """Writes coordinate-check.svg and .json below `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("coordinate-check"))
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--kind", nargs="+", choices=("adamw", "muon"), default=["adamw", "muon"])
    parser.add_argument("--lr", type=float, default=4e-3)
    flags = parser.parse_args()
    configs = {width: at_width(width) for width in flags.widths}
    batches = byte_batches(NUM_STEPS, 2)
    figure = Figure(figsize=(4.2 * len(flags.kind), 6.4), layout="constrained")
    grid = figure.subplots(2, len(flags.kind), squeeze=False, sharex=True)
    results = []
    for column, kind in enumerate(flags.kind):
        for row, metap in enumerate((None, MetaPConfig(at_width(flags.widths[0])))):
            optimizer = OptimizerConfig(kind=kind, lr=flags.lr, metap=metap)
            changes = coordinate_check(configs, optimizer, batches)
            exponents = growth(changes)
            results.append(
                {"kind": kind, "is_metap": metap is not None, "rms_change": changes, "exponent": exponents}
            )
            print(f"{kind}, {'metap' if metap else 'as it is'}: " + _told(exponents))
            axes = grid[row][column]
            for site in exponents:
                axes.loglog(flags.widths, [changes[width][site] for width in flags.widths], "o-", label=site)
            axes.set_title(f"{kind}, {'multipliers' if metap else 'the same numbers'}", loc="left")
            axes.set_ylabel(f"RMS change in {NUM_STEPS} steps")
            axes.set_xlabel("width" if row else "")
    grid[0][0].legend(frameon=False, fontsize=7)
    flags.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(flags.out / "coordinate-check.svg")
    report = {"schema": "coordinate-check/1", "lr": flags.lr, "steps": NUM_STEPS, "results": results}
    (flags.out / "coordinate-check.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _told(exponents: dict[str, float]) -> str:
    return ", ".join(f"{site} {exponent:+.2f}" for site, exponent in exponents.items())


if __name__ == "__main__":
    main()
