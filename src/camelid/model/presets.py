"""The herd by name.

`scout` and `maverick` are the released shapes. `behemoth` was never released: only "288B active, 16 experts,
nearly two trillion total" is public, and its shape here is our estimate, consistent with those totals. `mini-*`
are the sizes we benchmark against peers, `nano-*` the ones that a laptop trains.
"""

from __future__ import annotations

from collections.abc import Callable

from camelid.core.errors import ConfigError
from camelid.model.config import Llama4Config, RopeScaling, TextConfig, VisionConfig, irope_layer_types

__all__ = ["PRESETS", "preset"]

VISION = VisionConfig(
    hidden_size=1408,
    num_hidden_layers=34,
    num_attention_heads=16,
    image_size=336,
    patch_size=14,
    projector_dim=4096,
)
NANO_VISION = VisionConfig(
    hidden_size=192,
    num_hidden_layers=6,
    num_attention_heads=6,
    image_size=48,
    patch_size=8,
    projector_dim=256,
    max_tiles=1,  # four were tried: names fell to a quarter (docs/log.md)
)
NANO_CHUNK = 256


def scout() -> Llama4Config:
    """Llama 4 Scout 17B-16E: 109B parameters, every layer MoE."""
    return Llama4Config(
        TextConfig(
            vocab_size=202_048,
            hidden_size=5120,
            num_attention_heads=40,
            num_key_value_heads=8,
            head_dim=128,
            intermediate_size=8192,
            intermediate_size_mlp=16_384,
            num_local_experts=16,
            layer_types=irope_layer_types(48),
            moe_layers=tuple(range(48)),
            rope_scaling=RopeScaling(),
            max_position_embeddings=10_485_760,
        ),
        VISION,
    )


def maverick() -> Llama4Config:
    """Llama 4 Maverick 17B-128E: 400B parameters, dense and MoE layers alternate, no QK norm."""
    base = scout()
    return base.replace(
        text=base.text.replace(
            num_local_experts=128,
            moe_layers=tuple(range(1, 48, 2)),
            rope_scaling=None,
            use_qk_norm=False,
            max_position_embeddings=1_048_576,
        )
    )


def behemoth() -> Llama4Config:
    """Llama 4 Behemoth, our estimate: Scout's plan widened until the public totals (288B / ~2T) hold."""
    base = scout()
    return base.replace(
        text=base.text.replace(
            hidden_size=16_384,
            num_attention_heads=128,
            intermediate_size=24_064,
            intermediate_size_mlp=48_128,
            layer_types=irope_layer_types(96),
            moe_layers=tuple(range(96)),
            max_position_embeddings=262_144,
        )
    )


def mini_scout() -> Llama4Config:
    """229M parameters, text only: the Scout shape that peers are measured on."""
    return Llama4Config(
        TextConfig(
            vocab_size=8192,
            hidden_size=512,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=64,
            intermediate_size=1024,
            intermediate_size_mlp=1024,
            num_local_experts=16,
            layer_types=irope_layer_types(8),
            moe_layers=tuple(range(8)),
            max_position_embeddings=16_384,
        )
    )


def mini_maverick() -> Llama4Config:
    """427M parameters, text only: the Maverick shape that peers are measured on."""
    base = mini_scout()
    return base.replace(
        text=base.text.replace(
            intermediate_size=512, num_local_experts=128, moe_layers=tuple(range(1, 8, 2)), use_qk_norm=False
        )
    )


def nano_scout() -> Llama4Config:
    """9.8M parameters: the multimodal Scout of the demo and of the shipped weights."""
    return Llama4Config(
        TextConfig(
            vocab_size=5120,
            hidden_size=192,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=32,
            intermediate_size=112,
            intermediate_size_mlp=224,
            num_local_experts=16,
            layer_types=irope_layer_types(4),
            moe_layers=tuple(range(4)),
            attention_chunk_size=NANO_CHUNK,
            floor_scale=NANO_CHUNK,
        ),
        NANO_VISION,
    )


def nano_maverick() -> Llama4Config:
    """Nano Scout's width with 64 experts in every second layer and no QK norm."""
    base = nano_scout()
    return base.replace(
        text=base.text.replace(num_local_experts=64, moe_layers=(1, 3), use_qk_norm=False),
    )


def nano_behemoth() -> Llama4Config:
    """16.8M parameters: a teacher for the nano members, Scout's plan and half as wide again."""
    base = nano_scout()
    return base.replace(
        text=base.text.replace(
            hidden_size=288,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=168,
            intermediate_size_mlp=336,
        )
    )


PRESETS: dict[str, Callable[[], Llama4Config]] = {
    "scout": scout,
    "maverick": maverick,
    "behemoth": behemoth,
    "mini-scout": mini_scout,
    "mini-maverick": mini_maverick,
    "nano-scout": nano_scout,
    "nano-maverick": nano_maverick,
    "nano-behemoth": nano_behemoth,
}


def preset(name: str) -> Llama4Config:
    """The configuration of a named member; ConfigError lists the names there are."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]()
