"""Llama 4 on one device: text decoder, vision encoder and their early fusion.

Module and parameter names are those of Hugging Face's `Llama4ForConditionalGeneration`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from camelid.core.errors import InputError
from camelid.model.attention import Attention, Geometry, TokenGeometry
from camelid.model.config import Llama4Config, TextConfig
from camelid.model.fusion import MultiModalProjector, fuse
from camelid.model.kv_cache import LayerCache, SequenceCache
from camelid.model.moe import FeedForward, MoE
from camelid.model.output import ModelOutput, RouterOutput
from camelid.model.vision import VisionModel
from camelid.ops import rms_norm

__all__ = ["DecoderLayer", "Llama4"]


class RMSNorm(nn.Module):
    """RMS norm with a weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
        return rms_norm(x, self.weight, self.eps)


class DecoderLayer(nn.Module):
    """h = x + Attention(norm x); y = h + FeedForward(norm h)."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, config.layer_types[layer])
        self.feed_forward: MoE | FeedForward = (
            MoE(config)
            if layer in config.moe_layers
            else FeedForward(config.hidden_size, config.intermediate_size_mlp)
        )
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Float[Tensor, "tokens hidden"], geometry: TokenGeometry, cache: LayerCache | None
    ) -> tuple[Float[Tensor, "tokens hidden"], RouterOutput | None]:
        x = x + self.self_attn(self.input_layernorm(x), geometry, cache)
        normed = self.post_attention_layernorm(x)
        if isinstance(self.feed_forward, MoE):
            out, routing = self.feed_forward(normed)
            return x + out, routing
        return x + self.feed_forward(normed), None


class Decoder(nn.Module):
    """Embedding, layers and the final norm."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        # Given its weight, the table draws no random numbers, for which torch would import its compiler on "meta".
        weight = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=weight)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LanguageModel(nn.Module):
    """The decoder and its head, which is a matrix of its own or, tied, the embedding once more."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.model = Decoder(config)
        self.is_tied = config.tie_word_embeddings
        if not self.is_tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def head_weight(self) -> Float[Tensor, "vocab hidden"]:
        """What hidden states are multiplied by to give logits."""
        weight: Tensor = (self.model.embed_tokens if self.is_tied else self.lm_head).weight
        return weight


class Llama4(nn.Module):
    """A member of the herd. Weights are uninitialised until `init_weights` or a checkpoint fills them."""

    def __init__(self, config: Llama4Config, *, absolute_positions: bool = False) -> None:
        super().__init__()
        self.config = config
        self.geometry = Geometry(config.text, absolute_positions)
        self.language_model = LanguageModel(config.text)
        if config.vision is not None:
            self.vision_model = VisionModel(config.vision)
            self.multi_modal_projector = MultiModalProjector(config)

    def embed(
        self,
        token_ids: Int[Tensor, "tokens"],
        tiles: UInt8[Tensor, "tiles 3 size size"] | None = None,
        patch_positions: Int[Tensor, "patches"] | None = None,
    ) -> Float[Tensor, "tokens hidden"]:
        """Token embeddings with image features in the places of patch tokens."""
        embeddings: Tensor = self.language_model.model.embed_tokens(token_ids)
        if tiles is None or not tiles.shape[0]:
            return embeddings
        if self.config.vision is None:
            raise InputError(f"{tiles.shape[0]} tiles given to a text-only model")
        assert patch_positions is not None, "tiles without patch positions"
        return fuse(embeddings, self.multi_modal_projector(self.vision_model(tiles)), patch_positions)

    def forward(
        self,
        token_ids: Int[Tensor, "tokens"],
        document_lengths: Sequence[int] | None = None,
        tiles: UInt8[Tensor, "tiles 3 size size"] | None = None,
        patch_positions: Int[Tensor, "patches"] | None = None,
        cache: SequenceCache | None = None,
    ) -> ModelOutput:
        """Hidden states of documents packed end to end (default: one document).

        With a cache the tokens are one document's continuation, and the cache grows by them.
        """
        embeddings = self.embed(token_ids, tiles, patch_positions)
        return self.forward_embedded(embeddings, document_lengths, cache)

    def forward_embedded(
        self,
        embeddings: Float[Tensor, "tokens hidden"],
        document_lengths: Sequence[int] | None = None,
        cache: SequenceCache | None = None,
    ) -> ModelOutput:
        """`forward` for tokens that `embed` has seen."""
        num_tokens = embeddings.shape[0]
        lengths = tuple(document_lengths or (num_tokens,))
        if sum(lengths) != num_tokens:
            raise InputError(f"document lengths sum to {sum(lengths)}, but there are {num_tokens} tokens")
        if cache is not None and len(lengths) != 1:
            raise InputError(f"a cache holds one document, got {len(lengths)}")
        geometry: TokenGeometry = self.geometry(
            lengths, None if cache is None else cache.length, embeddings.device
        )
        x = embeddings
        routers: dict[int, RouterOutput] = {}
        for index, layer in enumerate(self.language_model.model.layers):
            x, routing = layer(x, geometry, None if cache is None else cache.layers[index])
            if routing is not None:
                routers[index] = routing
        if cache is not None:
            cache.length += num_tokens
        return ModelOutput(self.language_model.model.norm(x), routers)

    def logits(self, hidden: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows vocab"]:
        """Next-token logits of hidden states."""
        if self.language_model.is_tied:
            return F.linear(hidden, self.language_model.head_weight)
        out: Tensor = self.language_model.lm_head(hidden)
        return out
