"""Measures our logits against llama.cpp's, through its own converter, and writes a table in docs/parity.md.

pip install -e '.[parity]'     # compiles for a few minutes
python scripts/parity_llama_cpp.py

The converter, which llama-cpp-python does not install, is taken from its source package. llama.cpp has chunks of
8,192 tokens, Llama 4's temperature and its vocabulary built in, and tells QK norm by the number of experts: so these
models are small in width only.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import llama_models.llama4
import numpy as np
import torch
from llama_cpp import Llama

from camelid.checkpoint import save_model
from camelid.cli.export import export
from camelid.inputs import Tokenizer
from camelid.model import KVCache, Llama4, Llama4Config, init_weights, preset
from camelid.model.config import irope_layer_types

DOCUMENT = Path(__file__).parents[1] / "docs" / "parity.md"
BEGIN, END = "<!-- table: scripts/parity_llama_cpp.py -->", "<!-- end of table: llama.cpp -->"
PACKAGE = "llama-cpp-python==0.3.36"
VOCABULARY = Path(llama_models.llama4.__file__).parent / "tokenizer.model"
F32 = 0  # llama.cpp's number for the type of its cache
GREEDY_TOKENS = 64
TEXTS = (
    "The capital of France is Paris.",
    "def f(x):\n    return x**2\n\nprint(f(1234567))  # déjà vu 😀",
    "你好世界. नमस्ते. " * 40,
)


class Row(NamedTuple):
    """One text and one model."""

    model: str
    num_tokens: int
    has_same_tokens: bool
    largest_logit: float
    error: float
    is_greedy_same: bool


def small_model(kind: str) -> Llama4:
    """A released model's plan, vocabulary and constants, with narrow layers and eight of them."""
    text = preset(kind).text
    moe_layers = tuple(layer for layer in text.moe_layers if layer < 8)
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    widths = {"intermediate_size": 128, "intermediate_size_mlp": 256}
    config = text.replace(layer_types=irope_layer_types(8), moe_layers=moe_layers, **sizes, **widths)
    model = init_weights(Llama4(Llama4Config(config)), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        # Fresh weights say next to nothing: norms are made uneven, and the rest is made loud.
        scale = 0.2 if "norm" in name else 0.06
        torch.nn.init.normal_(parameter, float("norm" in name), scale, generator=generator)
    return model.eval()


def to_gguf(model: Llama4, folder: Path, converter: Path) -> Path:
    """Our export, through llama.cpp's converter."""
    ours, exported, gguf = folder / "ours", folder / "exported", folder / "model.gguf"
    save_model(model, ours, torch.float32)
    (ours / "tokenizer.model").write_bytes(VOCABULARY.read_bytes())
    export(ours, exported, "keep")
    command = [sys.executable, str(converter), str(exported), "--outfile", str(gguf), "--outtype", "f32"]
    subprocess.run(command, check=True, capture_output=True)
    return gguf


@torch.no_grad()
def our_answer(model: Llama4, ids: list[int]) -> list[int]:
    """Greedy tokens with the cache."""
    cache, answer, unseen = KVCache(model.config.text), [], ids
    for _ in range(GREEDY_TOKENS):
        unseen = [int(model.logits(model(torch.tensor(unseen), cache=cache).hidden[-1]).argmax())]
        answer += unseen
    return answer


def their_answer(peer: Llama, ids: list[int]) -> list[int]:
    """The same by llama.cpp."""
    peer.reset()
    peer.eval(ids)
    answer = [int(peer.scores[peer.n_tokens - 1].argmax())]
    while len(answer) < GREEDY_TOKENS:
        peer.eval(answer[-1:])
        answer.append(int(peer.scores[peer.n_tokens - 1].argmax()))
    return answer


@torch.no_grad()
def measure(kind: str, converter: Path) -> list[Row]:
    """All texts on one model."""
    model, tokenizer, rows = small_model(kind), Tokenizer.from_file(VOCABULARY), []
    with tempfile.TemporaryDirectory() as folder:
        gguf = to_gguf(model, Path(folder), converter)
        options = {"n_ctx": 2048, "n_batch": 2048, "n_ubatch": 2048, "logits_all": True, "verbose": False}
        peer = Llama(str(gguf), type_k=F32, type_v=F32, flash_attn=False, **options)
        for text in TEXTS:
            ids = [tokenizer.special("begin_of_text"), *tokenizer.encode(text)]
            has_same_tokens = peer.tokenize(text.encode(), add_bos=True, special=False) == ids
            peer.reset()
            peer.eval(ids)
            theirs = torch.from_numpy(np.array(peer.scores[: len(ids)]))
            ours = model.logits(model(torch.tensor(ids)).hidden)
            is_same = our_answer(model, ids) == their_answer(peer, ids)
            error = float((ours - theirs).abs().max())
            rows.append(Row(kind, len(ids), has_same_tokens, float(ours.abs().max()), error, is_same))
            print(rows[-1], flush=True)
    return rows


def as_markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [
        "| model | tokens | its own tokens of the text | largest logit | fp32 error | 64 greedy tokens |",
        "|---|--:|---|--:|--:|---|",
    ]
    lines += [
        f"| {row.model}, narrow | {row.num_tokens} | {'equal' if row.has_same_tokens else 'others'} | "
        f"{row.largest_logit:.1f} | {row.error:.1e} | "
        f"{'equal' if row.is_greedy_same else 'DIFFERENT'} |"
        for row in rows
    ]
    return "\n".join(lines)


def fetch_converter(folder: Path) -> Path:
    """llama.cpp's converter out of llama-cpp-python's source package."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-binary", "llama-cpp-python", "--dest", str(folder), PACKAGE], check=True)
    (package,) = folder.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(package) as archive:
        archive.extractall(folder, filter="data")
    (converter,) = folder.glob("*/vendor/llama.cpp/convert_hf_to_gguf.py")
    return converter


def main() -> None:
    """Measures, prints, and replaces what stands between the markers."""
    with tempfile.TemporaryDirectory() as folder:
        converter = fetch_converter(Path(folder))
        rows = [row for kind in ("scout", "maverick") for row in measure(kind, converter)]
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{as_markdown(rows)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
