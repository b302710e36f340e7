"""The decoder's attention: chunked layers with RoPE and QK norm, global layers with temperature (iRoPE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from camelid.core.errors import InputError
from camelid.model.config import LayerType, TextConfig
from camelid.model.kv_cache import LayerCache
from camelid.ops import (
    SegmentPlan,
    apply_rope,
    continued_attention,
    plan_segments,
    rms_norm,
    segment_attention,
    side_by_side_attention,
    split_lengths,
)
from camelid.ops.attention import attention_temperature
from camelid.ops.rope import rope_frequencies, rotations

__all__ = ["Attention", "Geometry", "TokenGeometry"]


@dataclass(frozen=True)
class TokenGeometry:
    """Where the tokens of one forward pass stand; the same for all layers.

    `segments` has, for each layer type, either a plan for whole documents or, when a cache is continued, the
    lengths of the segments that known and new tokens together form.
    """

    turns: Complex[Tensor, "tokens pairs"]
    temperature: Float[Tensor, "tokens"] | None
    segments: dict[LayerType, SegmentPlan | tuple[int, ...]]


class Geometry(nn.Module):
    """Derives `TokenGeometry` from document lengths.

    RoPE only ever compares positions inside one chunk, so angles are taken at position mod chunk: the same
    mathematics, and exact at ten million tokens, where fp32 angles at absolute positions are not.
    `absolute_positions` restores the references' rounding for comparison with them.
    """

    def __init__(self, config: TextConfig, absolute_positions: bool = False) -> None:
        super().__init__()
        self.config = config
        self.absolute_positions = absolute_positions
        # The frequencies are never stored and must be fp32: computed on use, on any device, even after `.to()`.
        self._turns: Tensor | None = None

    def _rotations(self, positions: Tensor) -> Tensor:
        scaling = self.config.rope_scaling
        slow_down = (
            ()
            if scaling is None
            else (
                scaling.factor,
                scaling.low_freq_factor,
                scaling.high_freq_factor,
                scaling.original_max_position_embeddings,
            )
        )
        frequencies = rope_frequencies(self.config.head_dim, self.config.rope_theta, *slow_down)
        return rotations(positions, frequencies.to(positions.device))

    def at(
        self, positions: Int[Tensor, "tokens"]
    ) -> tuple[Complex[Tensor, "tokens pairs"], Float[Tensor, "tokens"] | None]:
        """Rotations and temperatures (None: no tuning) of tokens at these positions."""
        config, chunk, device = self.config, self.config.attention_chunk_size, positions.device
        if self.absolute_positions:
            turns = self._rotations(positions)
        else:
            if self._turns is None or self._turns.device != device:
                self._turns = self._rotations(torch.arange(chunk, device=device))
            turns = self._turns.index_select(0, positions % chunk)
        temperature = (
            attention_temperature(positions, config.floor_scale, config.attn_scale)
            if config.attn_temperature_tuning
            else None
        )
        return turns, temperature

    def forward(
        self, document_lengths: tuple[int, ...], num_known: int | None, device: torch.device
    ) -> TokenGeometry:
        """`num_known` tokens are in the cache already (None: there is no cache)."""
        config, chunk = self.config, self.config.attention_chunk_size
        start = num_known or 0
        if config.is_all_rope and (end := start + max(document_lengths)) > chunk:
            raise InputError(f"{end:,} positions, but this model's layers see a context of {chunk:,}")
        positions = torch.cat(
            [torch.arange(start, start + length, device=device) for length in document_lengths]
        )
        turns, temperature = self.at(positions)
        segments: dict[LayerType, SegmentPlan | tuple[int, ...]]
        if num_known:
            (num_new,) = document_lengths
            in_chunk = num_known % chunk
            segments = {
                "chunked": split_lengths([in_chunk + num_new], chunk),
                "global": (num_known + num_new,),
            }
        else:
            whole = plan_segments(document_lengths, device)
            is_cut = max(document_lengths) > chunk
            segments = {
                "chunked": plan_segments(split_lengths(document_lengths, chunk), device) if is_cut else whole,
                "global": whole,
            }
        return TokenGeometry(turns, temperature, segments)


class Attention(nn.Module):
    """Grouped-query attention of one layer over one flat token axis."""

    def __init__(self, config: TextConfig, layer_type: LayerType) -> None:
        super().__init__()
        self.layer_type: LayerType = layer_type
        self.use_qk_norm = config.use_qk_norm
        self.eps = config.rms_norm_eps
        self.head_dim = config.head_dim
        width, kv_width = (
            heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
        )
        self.q_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)

    def projections(self, x: Float[Tensor, "tokens hidden"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [tokens heads·head_dim], keys and values [tokens kv_heads·head_dim]."""
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def forward(
        self, x: Float[Tensor, "tokens hidden"], geometry: TokenGeometry, cache: LayerCache | None
    ) -> Float[Tensor, "tokens hidden"]:
        q, k, v = (projected.unflatten(-1, (-1, self.head_dim)) for projected in self.projections(x))
        if self.layer_type == "chunked":
            q, k = apply_rope(q, geometry.turns), apply_rope(k, geometry.turns)
            if self.use_qk_norm:
                q, k = rms_norm(q, None, self.eps), rms_norm(k, None, self.eps)
        elif geometry.temperature is not None:
            q = q * geometry.temperature[:, None, None]
        if cache is not None:
            k_known, v_known = cache.append(k.to(v.dtype), v)
        segments = geometry.segments[self.layer_type]
        if isinstance(segments, SegmentPlan):
            out = segment_attention(q, k, v, segments)
        elif k_known.ndim == 4:  # one new token each of several sequences
            out = side_by_side_attention(q, k_known, v_known, segments)
        else:
            out = continued_attention(q, k_known, v_known, segments)
        projected: Tensor = self.o_proj(out.flatten(1))
        return projected
