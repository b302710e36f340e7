"""One global layer's attention for one new token after 1,048,576 cached ones, bf16, against torch's own GQA.

Eight query heads, two of keys and values, head size 64: 537 MB are read. int8 keys and values are raced as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from camelid.model import Llama4, Llama4Config, TextConfig
from camelid.model.native import layer_weights, model_shape
from camelid.model.packed import pack_for_decoding
from camelid.model.paged_kv import PagedKV, PageTable
from camelid.ops.native import PAGE_SIZE, DecoderStep, Run
from measure import compare, race

KEYS, HEADS, KV_HEADS, SIZE = 1 << 20, 8, 2, 64
ROUNDS, REQUIRED, AIM = 7, 7.0, 20.0
CONFIG = Llama4Config(
    TextConfig(
        vocab_size=512, hidden_size=64, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=SIZE,
        intermediate_size=64, intermediate_size_mlp=64, num_local_experts=1, layer_types=("global",), moe_layers=(),
        max_position_embeddings=2 * KEYS,
    )
)  # fmt: skip


def their_step() -> Callable[[], float]:
    """Scaled dot-product attention with `enable_gqa`."""
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(1, KV_HEADS, KEYS, SIZE, generator=generator).bfloat16() for _ in range(2))
    query = torch.randn(1, HEADS, 1, SIZE, generator=generator).bfloat16()

    @torch.inference_mode()
    def step() -> float:
        return float(F.scaled_dot_product_attention(query, keys, values, enable_gqa=True).float().sum())

    return step


def our_step(dtype: torch.dtype) -> Callable[[], float]:
    """A whole layer, of which all but the attention is next to nothing."""
    model = Llama4(CONFIG).bfloat16().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02)
    kv = PagedKV(CONFIG.text, {"chunked": 0, "global": KEYS // PAGE_SIZE + 1}, dtype)
    generator = torch.Generator().manual_seed(0)
    for pages in (kv.layers[0].keys, kv.layers[0].values):
        for page in range(0, len(pages), 1024):
            some = pages[page : page + 1024]
            if dtype == torch.int8:
                some.random_(-127, 128, generator=generator)
            else:
                some.copy_(torch.randn(some.shape, generator=generator))
    for scales in (kv.layers[0].key_scales, kv.layers[0].value_scales):
        if scales is not None:
            scales.fill_(0.02)
    pack_for_decoding(model.language_model)
    layer = layer_weights(model.language_model.model.layers[0], kv.layers[0])
    step, table = DecoderStep(model_shape(model), [layer]), PageTable(kv)
    for page in torch.randperm(KEYS // PAGE_SIZE + 1, generator=generator).tolist():
        table.append("global", page)
    inputs = torch.randn(1, CONFIG.text.hidden_size, generator=generator).bfloat16()

    def run() -> float:
        return float(
            step([Run(KEYS, inputs, table.pages("chunked"), table.pages("global"))], []).hidden.sum()
        )

    return run


def main() -> None:
    """bf16 pages, then int8 pages against the same peer."""
    for name, dtype in (("bf16", torch.bfloat16), ("int8", torch.int8)):
        peer, ours = race(their_step, partial(our_step, dtype), ROUNDS)
        compare(
            f"long-decode-{name}", "ms", [1e3 * s for s in peer.seconds], [1e3 * s for s in ours.seconds],
            required=REQUIRED, aim=AIM, keys=KEYS,
            what=f"a global layer's step after 1M tokens, {name} pages; peer: torch SDPA with enable_gqa, bf16",
        )  # fmt: skip


if __name__ == "__main__":
    main()
