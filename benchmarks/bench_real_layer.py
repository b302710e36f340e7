"""One decoder layer of Scout's real shape, one token: against transformers in bf16, and against memory itself.

A token meets 629 MB of a layer's 4.4 GB. transformers reads all experts; ours reads the shared and the chosen one,
packed, in one native call; in int8 and int4 it reads 334 and 177 MB. Eight tokens take turns, so that experts
do, and no cache holds them.

`python bench_real_layer.py memory` runs the second race alone: a processor that emulates bf16 is slow at the first.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache, Llama4TextConfig
from transformers.models.llama4.modeling_llama4 import Llama4TextDecoderLayer, Llama4TextRotaryEmbedding

from camelid.checkpoint.hf_config import config_to_hf
from camelid.model.attention import Geometry
from camelid.model.llama4 import DecoderLayer
from camelid.model.native import layer_weights
from camelid.model.packed import pack_for_decoding
from camelid.model.paged_kv import PagedKV, PageTable
from camelid.ops.native import DecoderStep, ModelShape, Run
from camelid.ops.quantization import GROUP_SIZE, Bits
from measure import compare, race
from real_shape import real_shape_config

ROUNDS, STEPS = 5, 8
MEMORY_ROUNDS = 40  # they are short, and the memory's rate swings
REQUIRED, AIM = 15.0, 20.0
RATES = {None: ("bf16", 0.9, 0.97), 8: ("int8", 0.8, 0.95), 4: ("int4", 0.85, 0.95)}  # required, aim
PROBE_BYTES = 2 << 30
CONFIG = real_shape_config(1)


def token(step: int) -> Tensor:
    """[1 hidden]"""
    return torch.randn(1, CONFIG.text.hidden_size, generator=torch.Generator().manual_seed(step)).bfloat16()


@torch.no_grad()
def _fill(module: torch.nn.Module) -> None:
    """Weights of both sides, from one block of numbers."""
    block = torch.randn(1 << 24, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    for name, parameter in module.named_parameters():
        flat = parameter.view(-1)
        for start in range(0, len(flat), len(block)):
            flat[start : start + len(block)] = 1.0 if "norm" in name else block[: len(flat) - start]


def peer_steps() -> Callable[[], float]:
    """transformers' layer with its cache; seconds per token are a round's over its steps."""
    config = Llama4TextConfig(**(config_to_hf(CONFIG) | {"pad_token_id": None}))
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(torch.bfloat16)
    layer = Llama4TextDecoderLayer(config, 0).eval()
    torch.set_default_dtype(torch.float32)
    _fill(layer)
    rotary, cache = Llama4TextRotaryEmbedding(config), DynamicCache(config=config)
    tokens = [token(index)[None] for index in range(STEPS)]

    @torch.inference_mode()
    def steps() -> float:
        total = 0.0
        for step in range(STEPS):
            x = tokens[step]
            position = torch.tensor([[cache.get_seq_length()]])
            out = layer(
                x, attention_mask=None, position_ids=position, past_key_values=cache, use_cache=True,
                position_embeddings=rotary(x, position),
            )  # fmt: skip
            total += float((out[0] if isinstance(out, tuple) else out).float().square().mean())
        return total

    return steps


def our_steps(bits: Bits | None = None) -> Callable[[], float]:
    """Our layer in native code, over pages."""
    text = CONFIG.text
    with torch.device("meta"):  # random numbers in fp32 would take minutes
        layer = DecoderLayer(text, 0).to(torch.bfloat16).eval()
    layer.to_empty(device="cpu")
    for buffer in layer.buffers():
        buffer.zero_()
    _fill(layer)
    pack_for_decoding(layer, bits)
    kv = PagedKV(text, {"chunked": 16, "global": 0})
    turns = torch.view_as_real(Geometry(text).at(torch.arange(text.attention_chunk_size))[0]).flatten(1)
    shape = ModelShape(text.num_attention_heads, 1, text.rms_norm_eps, turns)
    step = DecoderStep(shape, [layer_weights(layer, kv.layers[0])])
    table = PageTable(kv)
    for page in range(16):
        table.append("chunked", page)
    tokens = [token(index) for index in range(STEPS)]

    def steps() -> float:
        total = 0.0
        for index in range(STEPS):
            hidden = step(
                [Run(table.length, tokens[index], table.pages("chunked"), table.pages("global"))], []
            ).hidden
            table.length += 1
            total += float(hidden.square().mean())
        return total

    return steps


def probe() -> Callable[[], float]:
    """Reading memory and nothing else: the sum of two gigabytes of floats, torch's fastest way over memory."""
    data = torch.zeros(PROBE_BYTES // 4)

    def read() -> float:
        return float(data.sum())

    return read


def read_bytes(bits: Bits | None) -> int:
    """Of the weights that one token meets in one layer; groups of integers have a scale, the router stays bf16."""
    text = CONFIG.text
    attention = 2 * text.hidden_size * text.head_dim * (text.num_attention_heads + text.num_key_value_heads)
    experts = 2 * 3 * text.hidden_size * text.intermediate_size
    weight_bits = bits + 16 / GROUP_SIZE if bits else 16
    return int((attention + experts) * weight_bits / 8) + 2 * text.hidden_size * text.num_local_experts


def against_transformers() -> None:
    """A layer's seconds are those of one token."""
    peer, ours = race(peer_steps, our_steps, ROUNDS)
    differ = abs(peer.first_result - ours.first_result) / peer.first_result
    if differ > 0.02:
        raise SystemExit(f"the layers differ: {peer.first_result} and {ours.first_result}")
    compare(
        "real-layer", "ms", [1e3 * s / STEPS for s in peer.seconds], [1e3 * s / STEPS for s in ours.seconds],
        required=REQUIRED, aim=AIM, what="one Scout layer of real shape, one token, bf16", tokens=STEPS,
        bytes_read_per_token=read_bytes(None), relative_difference=differ,
    )  # fmt: skip


def against_memory() -> None:
    """In each precision."""
    for bits, (name, required, aim) in RATES.items():
        memory, layer = race(probe, partial(our_steps, bits), MEMORY_ROUNDS)
        # In seconds for the same bytes, so that less is better on both sides.
        floor = [s * read_bytes(bits) / PROBE_BYTES for s in memory.seconds]
        compare(
            f"real-layer-memory-{name}", "ms", [1e3 * s for s in floor], [1e3 * s / STEPS for s in layer.seconds],
            required=required, aim=aim, what=f"the same layer, {name}; peer: reading as many bytes of memory",
            tokens=STEPS, bytes_read_per_token=read_bytes(bits),
            memory_gb_per_second=round(PROBE_BYTES / statistics.median(memory.seconds) / 1e9, 1),
        )  # fmt: skip


if __name__ == "__main__":
    began = time.perf_counter()
    races = {"transformers": against_transformers, "memory": against_memory}
    for name in sys.argv[1:] or races:
        races[name]()
    print(f"{time.perf_counter() - began:.0f} s")
