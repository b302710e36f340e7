"""A packed model whose decode step is one native call over paged caches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.model.llama4 import DecoderLayer, Llama4
from camelid.model.moe import MoE
from camelid.model.packed import PackedAttention, PackedFeedForward, PackedLinear
from camelid.model.paged_kv import PagedKV, PagedSequence
from camelid.ops.native import DecodeStep, LayerWeights, ModelShape, TiledMatrix, native_paths

__all__ = ["NativeDecoder", "can_decode_natively"]


def can_decode_natively(model: Llama4) -> bool:
    """Whether there are kernels here, and the model is packed."""
    return bool(native_paths()) and any(isinstance(module, PackedAttention) for module in model.modules())


class NativeDecoder:
    """One token for each of several sequences per step. Twin: `Llama4.forward` with a `KVCache` each.

    `instructions`: of `native_paths()`, the best by default.
    """

    def __init__(self, model: Llama4, pool: PagedKV, instructions: str | None = None) -> None:
        decoder, text = model.language_model.model, model.config.text
        self._geometry, self._embeddings = model.geometry, decoder.embed_tokens.weight
        shape = ModelShape(
            text.num_attention_heads, text.attention_chunk_size, text.num_experts_per_tok, text.rms_norm_eps
        )
        layers = [
            layer_weights(layer, keys, values)
            for layer, keys, values in zip(decoder.layers, pool.keys, pool.values, strict=True)
        ]
        lm_head = None if model.language_model.is_tied else model.language_model.lm_head
        head = (
            lm_head.matrix
            if isinstance(lm_head, PackedLinear)
            else TiledMatrix(decoder.embed_tokens.weight.detach())
        )
        self._step = DecodeStep(shape, layers, decoder.norm.weight.detach(), head, instructions)

    def __call__(
        self, token_ids: Int[Tensor, "rows"], sequences: Sequence[PagedSequence]
    ) -> tuple[Float[Tensor, "rows vocab"], Int[Tensor, "layers rows top_k"]]:
        """Logits, and the experts chosen (-1 in dense layers). The sequences grow by a token each."""
        for sequence in sequences:
            sequence.reserve(1)
        positions = torch.tensor([sequence.length for sequence in sequences])
        turns, temperatures = self._geometry.at(positions)
        logits, routed = self._step(
            self._embeddings[token_ids].float(),
            positions,
            torch.view_as_real(turns).flatten(1),
            torch.ones(len(sequences)) if temperatures is None else temperatures,
            [sequence.pages("chunked") for sequence in sequences],
            [sequence.pages("global") for sequence in sequences],
        )
        for sequence in sequences:
            sequence.length += 1
        return logits, routed


def layer_weights(layer: nn.Module, keys: Tensor, values: Tensor) -> LayerWeights:
    """A packed layer's matrices, with the layer's pages."""
    assert isinstance(layer, DecoderLayer)
    attention, shared = layer.self_attn, layer.feed_forward
    router, bias, experts = None, None, []
    if isinstance(shared, MoE):
        router, bias = TiledMatrix(shared.router.weight.detach()), shared.router.selection_bias.float()
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
        keys=keys,
        values=values,
        is_chunked=attention.layer_type == "chunked",
        use_qk_norm=attention.use_qk_norm,
    )
