"""Models that take milliseconds and leave nothing out: every kind of layer, borders within few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from camelid.core import ModelInput
from camelid.inputs.special_tokens import MIN_SPECIAL_TOKENS
from camelid.model import Llama4, Llama4Config, RopeScaling, TextConfig, VisionConfig, init_weights
from camelid.model.config import LayerType, irope_layer_types

__all__ = ["NUM_SPECIAL_TOKENS", "TinyKind", "tiny_config", "tiny_input", "tiny_model"]

TinyKind = Literal["scout", "maverick", "dense"]

NUM_SPECIAL_TOKENS = 128
NUM_BASE_TOKENS = 256  # one per byte
CHUNK = 16

VISION = VisionConfig(
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=16,
    patch_size=4,
    projector_dim=20,
    max_tiles=4,
)
IRREGULAR: tuple[LayerType, ...] = ("chunked", "global", "chunked", "chunked", "global")
KINDS: dict[TinyKind, dict[str, Any]] = {
    "scout": {
        "num_local_experts": 4,
        "layer_types": irope_layer_types(6),
        "moe_layers": tuple(range(6)),
        "rope_scaling": RopeScaling(original_max_position_embeddings=64),
    },
    "maverick": {
        "num_local_experts": 8,
        "layer_types": irope_layer_types(6),
        "moe_layers": (1, 3, 5),
        "use_qk_norm": False,
    },
    "dense": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "layer_types": IRREGULAR,
        "moe_layers": (0, 3),
    },
}


def tiny_config(kind: TinyKind = "scout", *, vision: bool = False, **text: Any) -> Llama4Config:
    """Chunks of 16 tokens, temperature steps of 8, 4 patch tokens per tile, a byte vocabulary with 128 specials.

    `scout`: all layers MoE, QK norm, scaled RoPE. `maverick`: MoE in every second layer, neither. `dense`: mostly
    dense, top-2 experts, and a layer plan that follows no period. `text` replaces fields of the text config.
    """
    fields: dict[str, Any] = {
        "vocab_size": NUM_BASE_TOKENS + NUM_SPECIAL_TOKENS,
        "hidden_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 40,
        "intermediate_size_mlp": 72,
        "attention_chunk_size": CHUNK,
        "floor_scale": CHUNK // 2,
    }
    return Llama4Config(TextConfig(**fields | KINDS[kind] | text), VISION if vision else None)


def tiny_model(
    kind: TinyKind = "scout",
    *,
    vision: bool = False,
    seed: int = 0,
    absolute_positions: bool = False,
    **text: Any,
) -> Llama4:
    """Such a model in evaluation mode. Norms and biases are random too: nothing hides behind a one or a zero."""
    config = tiny_config(kind, vision=vision, **text)
    model = init_weights(Llama4(config, absolute_positions=absolute_positions), seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "norm" in name or name.endswith("bias"):
            nn.init.normal_(parameter, mean=float("weight" in name), std=0.2, generator=generator)
    return model.eval()


def tiny_input(
    config: Llama4Config, num_tokens: int, tile_starts: Sequence[int] = (), *, seed: int = 0
) -> ModelInput:
    """Random text tokens, with the patch tokens of one random tile from each of `tile_starts` on."""
    generator = torch.Generator().manual_seed(seed)
    first_special = config.text.vocab_size - NUM_SPECIAL_TOKENS
    token_ids = torch.randint(first_special, (num_tokens,), generator=generator)
    size, cells = (config.vision.image_size, config.vision.patch_tokens_per_tile) if config.vision else (0, 0)
    patches = [torch.arange(start, start + cells) for start in tile_starts]
    patch_positions = torch.cat(patches) if patches else torch.empty(0, dtype=torch.long)
    token_ids[patch_positions] = first_special + MIN_SPECIAL_TOKENS - 1
    shape = (len(tile_starts), 3, size, size)
    return ModelInput(
        token_ids=token_ids,
        loss_weights=torch.ones(num_tokens).index_fill(0, patch_positions, 0.0),
        tiles=torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        patch_positions=patch_positions,
        modality="image" if tile_starts else "text",
    )
