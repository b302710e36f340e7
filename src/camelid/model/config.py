"""What a Llama 4 model is, as data. Field names are Hugging Face's, except where those lie.

`layer_types` and `moe_layers` say layer by layer what stands where; no forward pass ever computes `% 4`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from camelid.core.config import Config
from camelid.core.errors import ConfigError

__all__ = ["LayerType", "Llama4Config", "RopeScaling", "TextConfig", "VisionConfig", "irope_layer_types"]

LayerType = Literal["chunked", "global"]


def irope_layer_types(num_layers: int, interval: int = 4) -> tuple[LayerType, ...]:
    """The iRoPE plan: every `interval`-th layer is global without positions, the others chunked with RoPE."""
    return tuple("global" if (layer + 1) % interval == 0 else "chunked" for layer in range(num_layers))


@dataclass(frozen=True)
class RopeScaling(Config):
    """Llama 3 frequency scaling. Scout uses low = high = 1: a hard step at `original_max_position_embeddings`."""

    factor: float = 16.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True)
class TextConfig(Config):
    """The decoder. Counts are per layer, widths in features, positions in tokens."""

    vocab_size: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int  # width of one expert and of the shared expert
    intermediate_size_mlp: int  # width of a dense layer
    num_local_experts: int
    layer_types: tuple[LayerType, ...]
    moe_layers: tuple[int, ...]
    num_experts_per_tok: int = 1
    attention_chunk_size: int = 8192
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    use_qk_norm: bool = True
    attn_temperature_tuning: bool = True
    floor_scale: int = 8192
    attn_scale: float = 0.1
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 262_144
    tie_word_embeddings: bool = False  # the embedding is the head as well

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for RoPE, got {self.head_dim}")
        if not self.layer_types:
            raise ConfigError("layer_types is empty: a model needs at least one layer")
        if any(not 0 <= layer < len(self.layer_types) for layer in self.moe_layers):
            raise ConfigError(
                f"moe_layers {self.moe_layers} leave the range of {len(self.layer_types)} layers"
            )
        if self.moe_layers and not 1 <= self.num_experts_per_tok <= self.num_local_experts:
            raise ConfigError(
                f"{self.num_experts_per_tok} experts per token of {self.num_local_experts} experts"
            )
        if self.moe_layers and (self.hidden_size % 8 or self.intermediate_size % 8):
            raise ConfigError(
                f"hidden_size {self.hidden_size} and intermediate_size {self.intermediate_size} must be multiples of "
                "8 in a model with experts: grouped matrix products read rows of bf16 in steps of 16 bytes"
            )
        if self.attention_chunk_size < 1 or self.floor_scale < 1:
            raise ConfigError(
                f"attention_chunk_size {self.attention_chunk_size} and floor_scale {self.floor_scale} "
                "must be at least 1"
            )

    @property
    def num_hidden_layers(self) -> int:
        return len(self.layer_types)

    @property
    def is_all_rope(self) -> bool:
        """Whether one chunk spans the whole context in every layer: full attention with RoPE, as before Llama 4."""
        return (
            all(kind == "chunked" for kind in self.layer_types)
            and self.attention_chunk_size >= self.max_position_embeddings
        )

    @property
    def is_dense_ancestor(self) -> bool:
        """Whether this is a Llama 3 in all but name: all-RoPE, all-dense, no QK norm."""
        return self.is_all_rope and not self.moe_layers and not self.use_qk_norm


@dataclass(frozen=True)
class VisionConfig(Config):
    """The encoder, adapter and projector. Sizes in pixels, widths in features."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int  # side of a square tile
    patch_size: int
    projector_dim: int  # width of the adapter's two layers
    max_tiles: int = 16  # most tiles an image is cut into, the global tile not counted
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.image_size % (2 * self.patch_size):
            raise ConfigError(
                f"image_size {self.image_size} does not divide into 2x2 groups of patches of {self.patch_size}"
            )
        if self.hidden_size % self.num_attention_heads or self.head_dim % 4:
            raise ConfigError(
                f"hidden_size {self.hidden_size} over {self.num_attention_heads} heads must give a head_dim "
                "that is a multiple of 4, for 2-D RoPE"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def intermediate_size(self) -> int:
        """Width of the encoder's MLP, and of the pixel-shuffled features: both are 4 x hidden in Llama 4."""
        return 4 * self.hidden_size

    @property
    def patches_per_side(self) -> int:
        return self.image_size // self.patch_size

    @property
    def patch_tokens_per_tile(self) -> int:
        """Positions that one tile takes in the sequence: four patches make one after the pixel shuffle."""
        return (self.patches_per_side // 2) ** 2


@dataclass(frozen=True)
class Llama4Config(Config):
    """A whole model. `vision` is None for a text-only member."""

    text: TextConfig
    vision: VisionConfig | None = None
