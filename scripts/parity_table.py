"""Measures our logits against other implementations and writes the table in docs/parity.md.

python scripts/parity_table.py

Every row is a small model with random weights in our files, which the reference loads. fp32: the largest
difference of a logit, where it first shows, and whether 64 greedy tokens agree. bf16: how far either side is
from the fp32 result, root mean square, because two roundings of one number need not agree with each other.
Meta's own code
runs the same inputs through models within its limits (regular layer plans, heads that fill the width).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from rich.console import Console
from torch import Tensor, nn
from transformers import Llama4ForConditionalGeneration
from transformers.utils import logging

from camelid.checkpoint import save_model
from camelid.core import ModelInput
from camelid.model import KVCache, Llama4
from camelid.testing import NUM_SPECIAL_TOKENS, TinyKind, tiny_input, tiny_model
from camelid.testing.meta_reference import MetaReference, tiny_model_for_meta

DOCUMENT = Path(__file__).parents[1] / "docs" / "parity.md"
BEGIN, END = "<!-- table: scripts/parity_table.py -->", "<!-- end of table -->"
GREEDY_TOKENS = 64
# Tokens, and where tiles of 4 patch tokens begin. Chunks are 16 tokens long.
INPUTS = {
    "text, 71 tokens": (71, ()),
    "an image across a chunk border": (40, (14,)),
    "four images": (75, (0, 4, 30, 62)),
}


class Row(NamedTuple):
    """One line of the table."""

    model: str
    shown: str
    largest_logit: float
    fp32_error: float
    first_layer: str
    greedy: str
    our_bf16_error: float
    their_bf16_error: float
    meta_error: float | None


class Run(NamedTuple):
    """Logits [tokens, vocab] and what each layer wrote, fp32 whatever was computed in."""

    logits: Tensor
    layers: list[Tensor]


@contextlib.contextmanager
def recorded(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What the layers put out while this lasts."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, arguments: object, out: Tensor | tuple[Tensor, ...]) -> None:
        seen.append((out if isinstance(out, Tensor) else out[0]).float().flatten(0, -2))

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def our_run(model: Llama4, item: ModelInput) -> Run:
    """One full forward of ours."""
    with recorded(list(model.language_model.model.layers)) as layers:
        hidden = model(item.token_ids, None, item.tiles, item.patch_positions).hidden
    return Run(model.logits(hidden).float(), layers)


def our_answer(model: Llama4, item: ModelInput, num_tokens: int) -> list[int]:
    """Greedy tokens, one at a time out of the cache."""
    cache = KVCache(model.config.text)
    hidden = model(item.token_ids, None, item.tiles, item.patch_positions, cache).hidden
    said: list[int] = []
    while len(said) < num_tokens:
        said.append(int(model.logits(hidden[-1]).argmax()))
        hidden = model(torch.tensor(said[-1:]), cache=cache).hidden
    return said


def transformers_inputs(item: ModelInput, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same as transformers is given it: normalised pixels, a batch of one."""
    inputs = {"input_ids": item.token_ids[None], "attention_mask": torch.ones(1, len(item), dtype=torch.long)}
    if item.tiles.shape[0]:
        inputs["pixel_values"] = ((item.tiles / 255 - 0.5) / 0.5).to(dtype)
    return inputs


def transformers_run(model: Llama4ForConditionalGeneration, item: ModelInput) -> Run:
    """One full forward of theirs."""
    with recorded(list(model.language_model.model.layers)) as layers:
        logits = model(**transformers_inputs(item, model.dtype)).logits[0]
    return Run(logits.float(), layers)


def measure(kind: TinyKind) -> Iterator[Row]:
    """All rows of one model."""
    ours = tiny_model(kind, vision=True)
    with tempfile.TemporaryDirectory() as folder:
        save_model(ours, Path(folder), torch.float32, NUM_SPECIAL_TOKENS)
        exact, rounded = (
            Llama4ForConditionalGeneration.from_pretrained(
                folder, dtype=dtype, attn_implementation="eager"
            ).eval()
            for dtype in (torch.float32, torch.bfloat16)
        )
    exact.generation_config.eos_token_id = None
    our_rounded = tiny_model(kind, vision=True).bfloat16()
    for_meta = None if kind == "dense" else tiny_model_for_meta(kind)
    meta = for_meta and MetaReference(for_meta)
    for shown, (num_tokens, tile_starts) in INPUTS.items():
        item = tiny_input(ours.config, num_tokens, tile_starts)
        mine, theirs = our_run(ours, item), transformers_run(exact, item)
        inputs = transformers_inputs(item, torch.float32)
        answer = exact.generate(**inputs, max_new_tokens=GREEDY_TOKENS, do_sample=False)[0, num_tokens:]
        is_same = our_answer(ours, item, GREEDY_TOKENS) == answer.tolist()
        yield Row(
            kind,
            shown,
            float(theirs.logits.abs().max()),
            _difference(mine.logits, theirs.logits),
            _first_layer(mine.layers, theirs.layers),
            "equal" if is_same else "DIFFERENT",
            _rms(our_run(our_rounded, item).logits, theirs.logits),
            _rms(transformers_run(rounded, item).logits, theirs.logits),
            for_meta and meta and _difference(our_run(for_meta, item).logits, meta.logits(item)),
        )


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _rms(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean().sqrt())


def _first_layer(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if difference := _difference(mine, other):
            return f"layer {number}, {difference:.1e}"
    return "none"


def as_markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [
        "| model | shown | largest logit | fp32 error | first seen after | 64 greedy tokens | bf16: we | they | Meta |",
        "|---|---|--:|--:|---|---|--:|--:|--:|",
    ]
    lines += [
        f"| {row.model} | {row.shown} | {row.largest_logit:.1f} | {row.fp32_error:.1e} | {row.first_layer} | "
        f"{row.greedy} | {row.our_bf16_error:.3f} | {row.their_bf16_error:.3f} | {_spoken(row.meta_error)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _spoken(error: float | None) -> str:
    return "no such plan" if error is None else f"{error:.1e}"


@torch.no_grad()
def main() -> None:
    """Measures, prints, and replaces what stands between the markers."""
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    console = Console()
    rows: list[Row] = []
    for kind in get_args(TinyKind):
        with console.status(f"{kind}: ours and transformers"):
            rows += measure(kind)
    table = as_markdown(rows)
    console.print(table, soft_wrap=True)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
