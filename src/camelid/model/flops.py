"""What training costs, from a configuration and counted tokens and tiles."""

from __future__ import annotations

import torch

from camelid.model.config import Llama4Config
from camelid.model.llama4 import Llama4

__all__ = ["training_flops"]


def training_flops(config: Llama4Config, num_tokens: int, num_tiles: int) -> float:
    """FLOPs of forward and backward in the products with weights: 6 for every weight that a row meets.

    Rows are tokens for the decoder and its head, patches for the encoder, and cells of four patches for adapter and
    projector. Routed experts count as far as a token meets them. Attention scores, norms and the optimizer are left
    out, which is fair between arms that read the same short documents.
    """
    with torch.device("meta"):
        model = Llama4(config)
    text, vision = config.text, config.vision
    cells = vision.patch_tokens_per_tile if vision else 0
    per_token, per_tile = 0.0, 0.0
    for name, parameter in model.named_parameters():
        size = float(parameter.numel())
        if parameter.ndim < 2 or "positional_embedding" in name:
            continue
        if "vision_adapter" in name or "multi_modal_projector" in name:
            per_tile += size * cells
        elif name.startswith("vision_model"):
            per_tile += size * 4 * cells
        elif "embed_tokens" in name and not text.tie_word_embeddings:
            continue  # a lookup
        elif ".experts." in name:
            per_token += size * text.num_experts_per_tok / text.num_local_experts
        else:
            per_token += size
    return 6 * (per_token * num_tokens + per_tile * num_tiles)
