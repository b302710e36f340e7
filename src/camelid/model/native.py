"""A packed model whose steps are native calls over paged caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.model.llama4 import DecoderLayer, Llama4
from camelid.model.moe import MoE
from camelid.model.packed import PackedAttention, PackedFeedForward, PackedLinear, fewer_bits
from camelid.model.paged_kv import PagedKV, PageTable
from camelid.ops.native import (
    FORMATS,
    DecoderStep,
    LayerPages,
    LayerWeights,
    ModelShape,
    PackedMatrix,
    Run,
    native_paths,
)

__all__ = ["NativeModel", "Portion", "can_run_natively", "layer_weights", "model_shape"]


def can_run_natively(model: Llama4) -> bool:
    """Whether there are kernels here, and the model is packed."""
    return bool(native_paths()) and any(isinstance(module, PackedAttention) for module in model.modules())


class Portion(NamedTuple):
    """New tokens of one sequence, in one chunk, and its pages, theirs included.

    `inputs`: token ids, or embeddings where pictures are among them. `logit_rows`: of which logits are wanted.
    """

    table: PageTable
    inputs: Sequence[int] | Float[Tensor, "new hidden"]
    logit_rows: Sequence[int]


class NativeModel:
    """Steps a packed model over paged sequences. Twin: `Llama4.forward` with a `KVCache` each.

    `instructions`: of `native_paths()`, the best by default.
    """

    def __init__(self, model: Llama4, kv: PagedKV, instructions: str | None = None) -> None:
        decoder, text = model.language_model.model, model.config.text
        self._chunk = text.attention_chunk_size
        shape = model_shape(model)
        layers = [layer_weights(layer, pages) for layer, pages in zip(decoder.layers, kv.layers, strict=True)]
        lm_head: nn.Module | None = None if model.language_model.is_tied else model.language_model.lm_head
        tied = decoder.embed_tokens.weight.detach()
        bits = FORMATS[layers[0].qkv.format]
        head = lm_head.matrix if isinstance(lm_head, PackedLinear) else PackedMatrix(fewer_bits(tied, bits))
        embeddings, norm = tied.contiguous(), decoder.norm.weight.detach()
        self._step = DecoderStep(shape, layers, embeddings, norm, head, instructions)

    def __call__(
        self, portions: Sequence[Portion]
    ) -> tuple[Float[Tensor, "wanted vocab"], Int[Tensor, "layers rows top_k"]]:
        """Logits, portion after portion, and the experts chosen for every row (-1 in dense layers).

        The tables grow by their tokens.
        """
        runs, logit_rows, first = [], list[int](), 0
        for table, inputs, wanted in portions:
            start, rows = table.length, len(inputs)
            assert start // self._chunk == (start + rows - 1) // self._chunk, (start, rows, self._chunk)
            runs.append(Run(start, inputs, table.pages("chunked"), table.pages("global")))
            logit_rows += [first + row for row in wanted]
            first += rows
        logits, routed, _ = self._step(runs, logit_rows)
        for portion in portions:
            portion.table.length += len(portion.inputs)
        return logits, routed


def model_shape(model: Llama4) -> ModelShape:
    """What the kernels must know of it, besides weights."""
    text = model.config.text
    turns, _ = model.geometry.at(torch.arange(text.attention_chunk_size))
    return ModelShape(
        text.num_attention_heads,
        text.num_experts_per_tok,
        text.rms_norm_eps,
        torch.view_as_real(turns).flatten(1),
        text.floor_scale,
        text.attn_scale if text.attn_temperature_tuning else 0.0,
    )


def layer_weights(layer: nn.Module, pages: LayerPages) -> LayerWeights:
    """A packed layer's matrices, with the layer's pages."""
    assert isinstance(layer, DecoderLayer)
    attention, shared = layer.self_attn, layer.feed_forward
    router, bias, experts = None, None, []
    if isinstance(shared, MoE):
        router, bias = PackedMatrix(shared.router.weight.detach()), shared.router.selection_bias.float()
        experts = [expert for expert in shared.experts.children() if isinstance(expert, PackedFeedForward)]
        shared = shared.shared_expert
    assert isinstance(attention, PackedAttention) and isinstance(attention.o_proj, PackedLinear)
    assert isinstance(shared, PackedFeedForward)
    return LayerWeights(
        input_norm=layer.input_layernorm.weight.detach(),
        qkv=attention.qkv.matrix,
        o=attention.o_proj.matrix,
        post_norm=layer.post_attention_layernorm.weight.detach(),
        shared_gate_up=shared.gate_up,
        shared_down=shared.down,
        router=router,
        selection_bias=bias,
        gate_up=tuple(expert.gate_up for expert in experts),
        down=tuple(expert.down for expert in experts),
        pages=pages,
        is_chunked=attention.layer_type == "chunked",
        use_qk_norm=attention.use_qk_norm,
    )
