"""Meta's params.json to our config and back. Widths follow there from factors; tensors say them plainly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from camelid.core.errors import CheckpointError, ConfigError
from camelid.model import Llama4Config, RopeScaling, TextConfig, VisionConfig
from camelid.model.config import irope_layer_types

__all__ = ["PARAMS", "config_from_params", "params_from_config"]

PARAMS = "params.json"
CHUNK_SIZE = 8192
# params.json has no context length. These are the instruct releases', told apart by Scout's RoPE scaling.
SCALED_CONTEXT, UNSCALED_CONTEXT = 10_485_760, 1_048_576


def config_from_params(
    params: Mapping[str, Any], vocab_size: int, expert_width: int, dense_width: int
) -> Llama4Config:
    """`params` as `llama_models.llama4.args.ModelArgs` has them; widths in features, from the tensors.

    A dense width of 0 means that no layer is dense; what the field says then follows from Meta's factors.
    """
    try:
        num_layers, heads = params["n_layers"], params["n_heads"]
        moe = params.get("moe_args") or {}
        step = moe.get("interleave_moe_layer_step", 1)
        scaled = params.get("use_scaled_rope", False)
        factor, high = params.get("rope_scaling_factor") or 16.0, params.get("rope_high_freq_factor") or 1.0
        interval = params.get("nope_layer_interval") or num_layers + 1
        text = TextConfig(
            vocab_size=vocab_size,
            hidden_size=params["dim"],
            num_attention_heads=heads,
            num_key_value_heads=params.get("n_kv_heads") or heads,
            head_dim=params.get("head_dim") or params["dim"] // heads,
            intermediate_size=expert_width,
            intermediate_size_mlp=dense_width or _dense_width(params),
            num_local_experts=moe.get("num_experts", 0),
            num_experts_per_tok=moe.get("top_k", 1),
            layer_types=irope_layer_types(num_layers, interval),
            moe_layers=tuple(range(step - 1, num_layers, step)) if moe else (),
            attention_chunk_size=params.get("attention_chunk_size") or CHUNK_SIZE,
            rope_theta=params.get("rope_theta", 500_000.0),
            rope_scaling=RopeScaling(factor=factor, high_freq_factor=high) if scaled else None,
            use_qk_norm=params.get("use_qk_norm", False),
            attn_temperature_tuning=params.get("attn_temperature_tuning", False),
            floor_scale=int(params.get("floor_scale", 8192)),
            attn_scale=params.get("attn_scale", 0.1),
            rms_norm_eps=params.get("norm_eps", 1e-5),
            max_position_embeddings=SCALED_CONTEXT if scaled else UNSCALED_CONTEXT,
        )
        vision = params.get("vision_args")
        return Llama4Config(
            text,
            vision
            and VisionConfig(
                hidden_size=vision["dim"],
                num_hidden_layers=vision["n_layers"],
                num_attention_heads=vision["n_heads"],
                image_size=vision["image_size"]["height"],
                patch_size=vision["patch_size"]["height"],
                projector_dim=vision["output_dim"],
            ),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{PARAMS} lacks {error}") from error
    except ConfigError as error:
        raise CheckpointError(f"{PARAMS}: {error}") from error


def _dense_width(params: Mapping[str, Any]) -> int:
    """Meta's rule, which rounds down after each factor and then up to a multiple."""
    width = int((params.get("ffn_dim_multiplier") or 1) * int(2 * int(4 * params["dim"]) / 3))
    multiple: int = params.get("multiple_of", 256)
    return width + -width % multiple


def params_from_config(config: Llama4Config) -> dict[str, Any]:
    """The inverse. ConfigError says which of Meta's regularities a model lacks."""
    text, vision = config.text, config.vision
    num_layers = text.num_hidden_layers
    is_global = [kind == "global" for kind in text.layer_types]
    interval = is_global.index(True) + 1 if any(is_global) else None
    if interval and is_global != [(layer + 1) % interval == 0 for layer in range(num_layers)]:
        raise ConfigError(f"Meta's format has a global layer every n-th only, not {text.layer_types}")
    step = text.moe_layers[0] + 1 if text.moe_layers else 1
    if text.moe_layers and tuple(text.moe_layers) != tuple(range(step - 1, num_layers, step)):
        raise ConfigError(f"Meta's format has experts in every n-th layer only, not in {text.moe_layers}")
    if text.head_dim * text.num_attention_heads != text.hidden_size:
        raise ConfigError(
            f"Meta's heads fill the hidden size: {text.num_attention_heads} x {text.head_dim} is not {text.hidden_size}"
        )
    params: dict[str, Any] = {
        "dim": text.hidden_size,
        "n_layers": num_layers,
        "n_heads": text.num_attention_heads,
        "n_kv_heads": text.num_key_value_heads,
        "vocab_size": text.vocab_size,
        "norm_eps": text.rms_norm_eps,
        "attention_chunk_size": text.attention_chunk_size,
        "rope_theta": text.rope_theta,
        "use_scaled_rope": text.rope_scaling is not None,
        "nope_layer_interval": interval,
        "use_qk_norm": text.use_qk_norm,
        "attn_temperature_tuning": text.attn_temperature_tuning,
        "floor_scale": text.floor_scale,
        "attn_scale": text.attn_scale,
    } | _width_factors(text)
    if text.rope_scaling is not None:
        params["rope_scaling_factor"] = text.rope_scaling.factor
        params["rope_high_freq_factor"] = text.rope_scaling.high_freq_factor
    if text.moe_layers:
        params["moe_args"] = {
            "num_experts": text.num_local_experts,
            "auto_scale_F": False,
            "top_k": text.num_experts_per_tok,
            "interleave_moe_layer_step": step,
        }
    if vision is not None:
        params["vision_args"] = {
            "image_size": {"height": vision.image_size, "width": vision.image_size},
            "patch_size": {"height": vision.patch_size, "width": vision.patch_size},
            "dim": vision.hidden_size,
            "n_layers": vision.num_hidden_layers,
            "n_heads": vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            "output_dim": vision.projector_dim,
            "pixel_shuffle_ratio": 0.5,
        }
    return params


def _width_factors(text: TextConfig) -> dict[str, Any]:
    """Factors from which Meta's code computes our two widths, of which one factor is shared by both.

    It rounds down after each product; halves keep the floor where it belongs.
    """
    factor = (text.intermediate_size_mlp + 0.5) / int(2 * int(4 * text.hidden_size) / 3)
    unscaled = math.ceil(text.intermediate_size / factor)
    if int(factor * unscaled) != text.intermediate_size:
        raise ConfigError(
            f"Meta's factors have no way to widths {text.intermediate_size_mlp} and {text.intermediate_size} "
            f"of {text.hidden_size}"
        )
    return {
        "multiple_of": 1,
        "ffn_dim_multiplier": factor,
        "ffn_exp": (math.ceil(1.5 * unscaled) + 0.5) / text.hidden_size,
    }
