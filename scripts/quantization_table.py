"""Measures what fewer bits cost the shipped weights, through the engine's kernels: the table in docs/quantization.md.

python scripts/quantization_table.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from camelid.checkpoint import load_model
from camelid.checkpoint.chat_files import load_chat_format
from camelid.data.starter import StarterPack
from camelid.infer.locate import SHIPPED_MODEL
from camelid.infer.runner import make_runner
from camelid.model.native import Portion
from camelid.model.paged_kv import PagedKV, PageTable
from camelid.ops.native import PAGE_SIZE
from camelid.quantize import Difference, Precision, compare_logits

DOCUMENT = Path(__file__).parents[1] / "docs" / "quantization.md"
BEGIN, END = "<!-- table: scripts/quantization_table.py -->", "<!-- end of table -->"
LENGTH, NUM_PIECES = 1024, 8
ROWS = {
    "bf16": Precision(),
    "bf16, keys and values int8": Precision(None, 8),
    "int8": Precision(8),
    "int8, keys and values int8": Precision(8, 8),
    "int4": Precision(4),
    "int4, keys and values int8": Precision(4, 8),
}


def held_out_pieces() -> list[Tensor]:
    """Token ids from the beginnings of held-out chapters."""
    tokenizer = load_chat_format(SHIPPED_MODEL, load_model(SHIPPED_MODEL).config).tokenizer
    chapters = StarterPack.open().prose("held_out")[:NUM_PIECES]
    return [torch.tensor(tokenizer.encode(chapter.text)[:LENGTH]) for chapter in chapters]


@torch.inference_mode()
def answers(pieces: Iterable[Tensor], precision: Precision) -> list[Tensor]:
    """Logits of every piece as the engine computes them."""
    model = load_model(SHIPPED_MODEL, torch.bfloat16)
    pages = -(-LENGTH // PAGE_SIZE)
    kv = PagedKV(
        model.config.text,
        {"chunked": pages, "global": pages},
        torch.int8 if precision.kv_bits else torch.bfloat16,
    )
    runner, found = make_runner(model, kv, precision.weight_bits), []
    for ids in pieces:
        table = PageTable(kv)
        for page in range(pages):
            table.append("chunked", page)
            table.append("global", page)
        chunk, logits = model.config.text.attention_chunk_size, []
        for part in ids.split(min(chunk, 256)):
            logits.append(runner.step([Portion(table, part.tolist(), range(len(part)))])[0])
        found.append(torch.cat(logits))
    return found


@torch.inference_mode()
def exact(pieces: Iterable[Tensor]) -> list[Tensor]:
    """The same in fp32, by the model itself."""
    model = load_model(SHIPPED_MODEL, torch.float32)
    return [model.logits(model(ids).hidden) for ids in pieces]


def main() -> None:
    """Measures every row against fp32, and replaces what stands between the markers."""
    pieces = held_out_pieces()
    wanted = exact(pieces)
    lines = ["| weights | KL from fp32, nats | same likeliest token |", "|---|--:|--:|"]
    for name, precision in track(ROWS.items(), "measuring"):
        found = answers(pieces, precision)
        difference = Difference(0, 0.0, 0.0)
        for one, other in zip(wanted, found, strict=True):
            difference += compare_logits(one, other)
        lines.append(f"| {name} | {difference.kl:.5f} | {difference.top1_agreement:.1%} |")
        print(lines[-1], flush=True)
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join([*lines, "", f"{difference.num_tokens:,} tokens of {len(pieces)} held-out chapters."])
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
