"""Reading a document of a million tokens for the sake of its end, exactly and in bounded memory.

Chunked layers are linear in the length. If only the last layer is global, then of the tokens before the end it needs
no more than their keys and values: nobody reads its output there. So the quadratic part is never computed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.core.errors import ConfigError
from camelid.model import KVCache, Llama4
from camelid.model.attention import Attention, TokenGeometry
from camelid.model.config import Llama4Config
from camelid.model.kv_cache import LayerCache
from camelid.model.llama4 import DecoderLayer
from camelid.ops import SegmentPlan, apply_rope
from camelid.ops.attention import continued_attention, segment_attention

__all__ = ["RotatedGlobalAttention", "logits_at_end", "rotate_global_layers"]

PIECE = 65_536  # tokens that pass through the chunked layers together


@torch.inference_mode()
def logits_at_end(
    model: Llama4, token_ids: Int[Tensor, "tokens"], num_last: int, piece: int = PIECE
) -> Float[Tensor, "last vocab"]:
    """Logits of the last tokens; as `model.forward` gives them. ConfigError for a global layer before the last."""
    config = model.config.text
    if "global" in config.layer_types[:-1]:
        raise ConfigError(f"only the last layer may be global, got {', '.join(config.layer_types)}")
    cache = KVCache(config)
    for part in token_ids[:-num_last].split(piece):
        geometry = model.geometry((len(part),), cache.length, part.device)
        x = model.embed(part)
        for layer, layer_cache in zip(_layers(model), cache.layers, strict=True):
            if layer.self_attn.layer_type == "global":
                _remember(layer.self_attn, layer.input_layernorm(x), geometry, layer_cache)
            else:
                x, _ = layer(x, geometry, layer_cache)
        cache.length += len(part)
    return model.logits(model(token_ids[-num_last:], cache=cache).hidden)


def _layers(model: Llama4) -> list[DecoderLayer]:
    return [layer for layer in model.language_model.model.layers if isinstance(layer, DecoderLayer)]


def _remember(attention: Attention, x: Tensor, geometry: TokenGeometry, cache: LayerCache) -> None:
    """Puts the keys and values of a global layer into its cache, and nothing else."""
    k, v = (
        projected(x).unflatten(-1, (-1, attention.head_dim))
        for projected in (attention.k_proj, attention.v_proj)
    )
    if isinstance(attention, RotatedGlobalAttention):
        k = apply_rope(k, geometry.turns)
    cache.append(k.to(v.dtype), v)


class RotatedGlobalAttention(Attention):
    """No layer of Llama 4, but its opponent: a global layer that has RoPE, and everything else alike.

    It needs a model with absolute positions, as rotations by position in the chunk would be another thing.
    """

    def forward(
        self, x: Float[Tensor, "tokens hidden"], geometry: TokenGeometry, cache: LayerCache | None
    ) -> Float[Tensor, "tokens hidden"]:
        q, k, v = (projected.unflatten(-1, (-1, self.head_dim)) for projected in self.projections(x))
        q, k = apply_rope(q, geometry.turns), apply_rope(k, geometry.turns)
        if geometry.temperature is not None:
            q = q * geometry.temperature[:, None, None]
        segments = geometry.segments["global"]
        if cache is not None:
            k, v = cache.append(k.to(v.dtype), v)
        if isinstance(segments, SegmentPlan):
            out = segment_attention(q, k, v, segments)
        else:
            out = continued_attention(q, k, v, segments)
        projected: Tensor = self.o_proj(out.flatten(1))
        return projected


def rotate_global_layers(config: Llama4Config) -> Llama4:
    """A model whose global layers have RoPE, weights uninitialised."""
    model = Llama4(config, absolute_positions=True)
    for layer in _layers(model):
        if layer.self_attn.layer_type == "global":
            layer.self_attn = RotatedGlobalAttention(config.text, "global")
    return model
