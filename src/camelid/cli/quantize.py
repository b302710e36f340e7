"""`camelid quantize`: a model in fewer bits, and how far its answers are from the source's."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from rich.console import Console

from camelid.checkpoint import load_model
from camelid.checkpoint.chat_files import load_chat_format
from camelid.cli.convert import convert
from camelid.data.starter import StarterPack
from camelid.ops.quantization import Bits
from camelid.quantize import compare_logits

__all__ = ["quantize"]


def quantize(source: Path, destination: Path, bits: Bits, measure_tokens: int) -> None:
    """Writes, then loads both in turn: never two models at a time."""
    convert(source, destination, "hf", bits=bits)
    if not measure_tokens:
        return
    with Console(stderr=True).status("comparing both on held-out prose"):
        before, after = (_logits(path, source, measure_tokens) for path in (source, destination))
    difference = compare_logits(before, after)
    print(
        f"KL {difference.kl:.5f} nats, the same likeliest token for {difference.top1_agreement:.1%} "
        f"of {difference.num_tokens:,} held-out tokens",
        file=sys.stderr,
    )


@torch.inference_mode()
def _logits(path: Path, source: Path, count: int) -> torch.Tensor:
    """Of the first tokens of the starter pack's held-out prose, in fp32."""
    model = load_model(path, torch.float32)
    tokenizer = load_chat_format(source, model.config).tokenizer
    text = "\n\n".join(chapter.text for chapter in StarterPack.open().prose("held_out"))
    ids = torch.tensor(tokenizer.encode(text[: 16 * count])[:count])
    return model.logits(model(ids).hidden)
