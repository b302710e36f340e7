"""Hugging Face's config.json and preprocessor_config.json, to our config and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from camelid.checkpoint.dense_layout import dense_config_from_hf, is_dense_hf
from camelid.checkpoint.stored_model import NUM_RELEASED_SPECIALS
from camelid.core.errors import CheckpointError, ConfigError
from camelid.model import Llama4Config, RopeScaling
from camelid.model.config import LayerType, irope_layer_types

__all__ = [
    "CONFIG",
    "PREPROCESSOR",
    "config_from_hf",
    "config_to_hf",
    "load_config",
    "model_files",
    "read_json",
]

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
SAME_NAME = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "intermediate_size_mlp",
    "num_local_experts",
    "num_experts_per_tok",
    "attention_chunk_size",
    "rope_theta",
    "use_qk_norm",
    "attn_temperature_tuning",
    "floor_scale",
    "attn_scale",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
)
# Released configs may leave these out; transformers' defaults are ours.
OPTIONAL = ("attn_temperature_tuning", "floor_scale", "attn_scale", "tie_word_embeddings")


def config_to_hf(config: Llama4Config, num_special_tokens: int = NUM_RELEASED_SPECIALS) -> dict[str, Any]:
    """The contents of config.json. `num_special_tokens` places the special token ids at the vocabulary's end."""
    first_special = config.text.vocab_size - num_special_tokens
    ids = {"bos_token_id": first_special, "eos_token_id": [first_special + n for n in (1, 7, 8)]}
    ids["pad_token_id"] = first_special + 18
    text = {name: getattr(config.text, name) for name in SAME_NAME}
    scaling, moe_layers = config.text.rope_scaling, tuple(config.text.moe_layers)
    step = moe_layers[0] + 1 if moe_layers else 0
    if step and moe_layers == tuple(range(step - 1, config.text.num_hidden_layers, step)):
        text["interleave_moe_layer_step"] = step  # all that llama.cpp reads of the plan
    text |= ids | {
        "model_type": "llama4_text",
        "num_hidden_layers": config.text.num_hidden_layers,
        "moe_layers": list(config.text.moe_layers),
        # Hugging Face's list is upside down: 1 means that the layer has RoPE.
        "no_rope_layers": [int(kind == "chunked") for kind in config.text.layer_types],
        "rope_scaling": None if scaling is None else scaling.to_dict() | {"rope_type": "llama3"},
        "hidden_act": "silu",
        "attention_bias": False,
    }
    if config.vision is None:
        return text | {"architectures": ["Llama4ForCausalLM"]}
    vision = config.vision
    return ids | {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "boi_token_index": first_special + 80,
        "eoi_token_index": first_special + 81,
        "image_token_index": first_special + 92,
        "tie_word_embeddings": config.text.tie_word_embeddings,
        "text_config": text,
        "vision_config": {
            "model_type": "llama4_vision_model",
            "hidden_size": vision.hidden_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "intermediate_size": vision.intermediate_size,
            "pixel_shuffle_ratio": 0.5,
            "projector_input_dim": vision.projector_dim,
            "projector_output_dim": vision.projector_dim,
            "vision_output_dim": vision.projector_dim,
            "norm_eps": vision.norm_eps,
            "rope_theta": vision.rope_theta,
            "hidden_act": "gelu",
        },
    }


def config_from_hf(values: Mapping[str, Any], max_tiles: int = 16) -> Llama4Config:
    """The inverse of `config_to_hf`, also for configs that transformers wrote. CheckpointError names what lacks."""
    text = values.get("text_config", values)
    try:
        rope = text.get("rope_parameters") or {}  # where transformers 5 moved theta and scaling
        text = {"rope_theta": rope["rope_theta"]} | text if rope else text
        scaling = text.get("rope_scaling") or (rope if rope.get("rope_type") == "llama3" else None)
        num_layers = text["num_hidden_layers"]
        layer_types: Sequence[LayerType] = [
            "chunked" if has_rope else "global" for has_rope in text.get("no_rope_layers") or ()
        ]
        step = text.get("interleave_moe_layer_step", 1)
        moe_layers = text.get("moe_layers")
        if moe_layers is None:
            moe_layers = range(step - 1, num_layers, step)
        same = {name: text[name] for name in SAME_NAME if name in text or name not in OPTIONAL}
        text_values = same | {
            "attn_temperature_tuning": bool(text.get("attn_temperature_tuning", True)),  # once the integer 4
            "layer_types": layer_types
            or irope_layer_types(num_layers, text.get("no_rope_layer_interval", 4)),
            "moe_layers": tuple(moe_layers),
            "rope_scaling": scaling and {field.name: scaling[field.name] for field in fields(RopeScaling)},
        }
        vision = values.get("vision_config")
        vision_values = vision and {
            "hidden_size": vision["hidden_size"],
            "num_hidden_layers": vision["num_hidden_layers"],
            "num_attention_heads": vision["num_attention_heads"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "projector_dim": vision["vision_output_dim"],
            "max_tiles": max_tiles,
            "rope_theta": vision.get("rope_theta") or (vision.get("rope_parameters") or {})["rope_theta"],
            "norm_eps": vision["norm_eps"],
        }
        return Llama4Config.from_dict({"text": text_values, "vision": vision_values})
    except KeyError as error:
        raise CheckpointError(f"{CONFIG} lacks the field {error}") from error
    except ConfigError as error:
        raise CheckpointError(f"{CONFIG}: {error}") from error


def model_files(config: Llama4Config, num_special_tokens: int) -> dict[str, str]:
    """The JSON files that stand beside the weights, by name."""
    files = {CONFIG: config_to_hf(config, num_special_tokens)}
    if config.vision is not None:
        side = config.vision.image_size
        files[PREPROCESSOR] = {
            "processor_class": "Llama4Processor",
            "image_processor_type": "Llama4ImageProcessorFast",
            "max_patches": config.vision.max_tiles,
            "size": {"height": side, "width": side},
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "resize_to_max_canvas": False,
        }
    return {name: json.dumps(values, indent=2, sort_keys=True) + "\n" for name, values in files.items()}


def load_config(directory: Path) -> Llama4Config:
    """Reads config.json, and the number of tiles from preprocessor_config.json if there is one."""
    values = read_json(directory / CONFIG)
    if is_dense_hf(values):
        return dense_config_from_hf(values)
    if (kind := values.get("model_type", "llama4")) not in ("llama4", "llama4_text"):
        raise CheckpointError(f"{directory / CONFIG}: model_type is {kind!r}, which is no Llama")
    preprocessor = directory / PREPROCESSOR
    max_tiles = read_json(preprocessor).get("max_patches", 16) if preprocessor.is_file() else 16
    return config_from_hf(values, max_tiles)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CheckpointError for anything else."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return values
