"""Meta's own Llama 4 code (package llama-models), run on a CPU beside ours: a second opinion on every logit.

It needs the packages llama-models and fairscale. Its limits: a global layer every n-th, MoE every n-th, one
sequence, CUDA taken for granted (hence the stand-in below), vision in bf16 unless told otherwise, and no
gradients through the experts.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from unittest import mock

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from camelid.core import ModelInput
from camelid.core.errors import ConfigError
from camelid.model import Llama4, Llama4Config, RopeScaling
from camelid.model.config import irope_layer_types
from camelid.testing.tiny import tiny_model

__all__ = ["MetaReference", "tiny_model_for_meta"]

TEXT_NAMES = {
    "language_model.model.embed_tokens": "tok_embeddings",
    "language_model.model.norm": "norm",
    "language_model.lm_head": "output",
    "language_model.model.layers": "layers",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    ".gate_proj": ".w1",
    ".up_proj": ".w3",
    ".down_proj": ".w2",
    "multi_modal_projector.linear_1": "vision_projection",
}
VISION_NAMES = {
    "vision_model.vision_adapter.mlp.fc1": "vision_embeddings.vision_adapter.mlp.c_fc",
    "vision_model.vision_adapter.mlp.fc2": "vision_embeddings.vision_adapter.mlp.c_proj",
    "vision_model.patch_embedding.linear": "vision_embeddings.vision_encoder.conv1._linear",
    "vision_model.layernorm_pre": "vision_embeddings.vision_encoder.ln_pre",
    "vision_model.layernorm_post": "vision_embeddings.vision_encoder.ln_post",
    "vision_model.model.layers": "vision_embeddings.vision_encoder.transformer.resblocks",
    "vision_model.": "vision_embeddings.vision_encoder.",
    "self_attn.q_proj": "attn.wq",
    "self_attn.k_proj": "attn.wk",
    "self_attn.v_proj": "attn.wv",
    "self_attn.o_proj": "attn.wo",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def tiny_model_for_meta(kind: Literal["scout", "maverick"]) -> Llama4:
    """A seeing model in miniature within the limits of Meta's code: eight layers, a regular plan, its RoPE scaling."""
    moe_layers = tuple(range(8)) if kind == "scout" else (1, 3, 5, 7)
    scaling = RopeScaling() if kind == "scout" else None
    return tiny_model(
        kind,
        vision=True,
        head_dim=12,
        layer_types=irope_layer_types(8),
        moe_layers=moe_layers,
        rope_scaling=scaling,
    )


class MetaReference:
    """Meta's `Transformer` with the weights of one of our models, fp32, on the CPU."""

    def __init__(self, model: Llama4, max_tokens: int = 256) -> None:
        with _on_cpu():
            from llama_models.llama4.model import Transformer

            self.model: nn.Module = Transformer(_model_args(model.config, max_tokens)).float().eval()
        loaded = self.model.load_state_dict(_renamed(model.state_dict()), strict=True)
        assert not loaded.missing_keys and not loaded.unexpected_keys
        self.layers: nn.ModuleList = self.model.get_submodule("layers")  # type: ignore[assignment]

    @torch.no_grad()
    def logits(self, item: ModelInput) -> Float[Tensor, "tokens vocab"]:
        """Of one whole sequence."""
        from llama_models.llama4.datatypes import MaskedEmbedding, TransformerInput

        embedding = None
        if item.tiles.shape[0]:
            mask = torch.zeros(1, len(item), 1, dtype=torch.bool)
            mask[0, item.patch_positions] = True
            embed = self.model.get_submodule("vision_embeddings")
            pixels = (item.tiles / 255 - 0.5) / 0.5
            reference = torch.zeros(1, len(item), 1)
            embedding = MaskedEmbedding(embed([[pixels]], mask, reference), mask)
        out = self.model(TransformerInput(item.token_ids[None], 0, embedding))
        logits: Tensor = out.logits[0]
        return logits


def _model_args(config: Llama4Config, max_tokens: int) -> Any:
    from llama_models.llama4.args import ModelArgs

    text, vision = config.text, config.vision
    is_global = [kind == "global" for kind in text.layer_types]
    interval = is_global.index(True) + 1
    step = text.moe_layers[0] + 1
    num_layers = text.num_hidden_layers
    if is_global != [(layer + 1) % interval == 0 for layer in range(num_layers)]:
        raise ConfigError(f"Meta's code has a global layer every n-th only, not {text.layer_types}")
    if tuple(text.moe_layers) != tuple(range(step - 1, num_layers, step)):
        raise ConfigError(f"Meta's code has experts in every n-th layer only, not in {text.moe_layers}")
    if text.head_dim * text.num_attention_heads != text.hidden_size:
        raise ConfigError(f"Meta's heads fill the hidden size: {text.head_dim} x {text.num_attention_heads}")
    # Sizes of feed-forward layers follow from the width by factors, of which one is shared by both kinds.
    # Meta rounds down after each of them; halves keep the floor where it belongs.
    factor = (text.intermediate_size_mlp + 0.5) / int(2 * int(4 * text.hidden_size) / 3)
    unscaled = math.ceil(text.intermediate_size / factor)
    if int(factor * unscaled) != text.intermediate_size:
        raise ConfigError(f"Meta's factors have no way to {text.intermediate_size} of {text.hidden_size}")
    return ModelArgs.model_validate(
        {
            "dim": text.hidden_size,
            "n_layers": num_layers,
            "n_heads": text.num_attention_heads,
            "n_kv_heads": text.num_key_value_heads,
            "vocab_size": text.vocab_size,
            "multiple_of": 1,
            "ffn_dim_multiplier": factor,
            "ffn_exp": (math.ceil(1.5 * unscaled) + 0.5) / text.hidden_size,
            "norm_eps": text.rms_norm_eps,
            "attention_chunk_size": text.attention_chunk_size,
            "rope_theta": text.rope_theta,
            "use_scaled_rope": text.rope_scaling is not None,
            "nope_layer_interval": interval,
            "use_qk_norm": text.use_qk_norm,
            "attn_temperature_tuning": text.attn_temperature_tuning,
            "floor_scale": text.floor_scale,
            "attn_scale": text.attn_scale,
            "max_batch_size": 1,
            "max_seq_len": max_tokens,
            "moe_args": {
                "num_experts": text.num_local_experts,
                "auto_scale_F": False,
                "top_k": text.num_experts_per_tok,
                "interleave_moe_layer_step": step,
            },
            "vision_args": vision
            and {
                "image_size": {"height": vision.image_size, "width": vision.image_size},
                "patch_size": {"height": vision.patch_size, "width": vision.patch_size},
                "dim": vision.hidden_size,
                "n_layers": vision.num_hidden_layers,
                "n_heads": vision.num_attention_heads,
                "mlp_ratio": vision.intermediate_size / vision.hidden_size,
                "output_dim": vision.projector_dim,
                "pixel_shuffle_ratio": 0.5,
            },
        }
    )


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = name
        for ours, theirs in (VISION_NAMES if name.startswith("vision_model") else TEXT_NAMES).items():
            new = new.replace(ours, theirs)
        if new.endswith("router.weight"):
            renamed[new.replace("router.weight", "router_DE")] = tensor.T
        elif new.endswith("experts.gate_up_proj"):
            gate, up = tensor.chunk(2, dim=-1)
            renamed[new.replace("gate_up_proj", "w1")] = gate
            renamed[new.replace("gate_up_proj", "w3")] = up
        else:
            renamed[new] = tensor
    return renamed


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
    """One process as its own group, and `.cuda()` stays where it is."""
    from fairscale.nn.model_parallel import initialize as groups

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    if not groups.model_parallel_is_initialized():
        groups.initialize_model_parallel(1)
    with mock.patch.object(Tensor, "cuda", lambda self: self):
        yield
