"""How fresh weights are drawn. Meta's initialisation is unpublished; this one is ours.

Matrices: truncated normal with std fan_in^-1/2, which is the customary 0.02 near Scout's width. What writes
into the residual stream of layer l is divided by sqrt(2 (l + 1)), so that depth does not inflate it. Embeddings
have std 1, the scale at which projected image features arrive: neither modality starts out louder. An embedding
that is the head as well is drawn as a head, or else the first logits would be huge. Each expert is drawn by itself:
copies would get the same gradients as long as they got the same tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from camelid.model.llama4 import Llama4

__all__ = ["init_weights"]

RESIDUAL = re.compile(r"layers\.(\d+)\..*(o_proj|down_proj|fc2|router)(\.weight)?$")


def init_weights(model: Llama4, seed: int, scales: Mapping[str, float] | None = None) -> Llama4:
    """Fills every parameter in place, in name order, from one seeded CPU generator; returns the model.

    `scales` multiply what the rules above give, by parameter name: for numbers that transfer to other sizes.
    """
    generator = torch.Generator().manual_seed(seed)
    scales = scales or {}
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            _init(name, parameter, model.config.text.tie_word_embeddings, generator)
            if "norm" not in name and (scale := scales.get(name, 1.0)) != 1.0:
                parameter.mul_(scale)
    return model


def _init(name: str, parameter: nn.Parameter, is_tied: bool, generator: torch.Generator) -> None:
    if name.endswith("bias"):
        parameter.zero_()
    elif "norm" in name:
        parameter.fill_(1.0)
    elif name.endswith("embed_tokens.weight") and not is_tied:
        _truncated_normal(parameter, 1.0, generator)
    elif name.endswith(("class_embedding", "positional_embedding_vlm")):
        _truncated_normal(parameter, parameter.shape[-1] ** -0.5, generator)
    else:
        # Experts are stored [experts, in, out], everything else [out, in].
        fan_in = parameter.shape[-2] if parameter.ndim == 3 else parameter.shape[-1]
        residual = RESIDUAL.search(name)
        depth_scale = 1 / math.sqrt(2 * (int(residual[1]) + 1)) if residual else 1.0
        _truncated_normal(parameter, fan_in**-0.5 * depth_scale, generator)


def _truncated_normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(parameter, std=std, a=-3 * std, b=3 * std, generator=generator)
