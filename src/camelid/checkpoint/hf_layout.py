"""Models on disk as Hugging Face writes them: config.json, model.safetensors, preprocessor_config.json.

Our parameter names are Hugging Face's, so only the config needs translating; a text-only model drops the
`language_model.` prefix, as `Llama4ForCausalLM` does. Folders of `LlamaForCausalLM` are read as well: see
`dense_layout`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from camelid.checkpoint.dense_layout import (
    dense_config_from_hf,
    dense_config_to_hf,
    dense_name_from_hf,
    dense_name_to_hf,
    is_dense_hf,
    rows_from_hf,
    rows_to_hf,
)
from camelid.core.errors import CheckpointError, ConfigError
from camelid.core.files import write_bytes_atomically, write_text_atomically
from camelid.model import Llama4, Llama4Config, RopeScaling, TextConfig
from camelid.model.config import LayerType, irope_layer_types

__all__ = [
    "config_from_hf",
    "config_to_hf",
    "is_model_dir",
    "load_config",
    "load_model",
    "model_files",
    "save_dense_model",
    "save_model",
]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PREPROCESSOR = "preprocessor_config.json"
PREFIX = "language_model."
# Offsets of the special tokens that a config names, counted from the first special token.
NUM_RELEASED_SPECIALS, RELEASED_VOCAB = 2048, 202_048
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
    scaling = config.text.rope_scaling
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


def save_model(
    model: Llama4, directory: Path, dtype: torch.dtype = torch.bfloat16, num_special_tokens: int | None = None
) -> None:
    """Writes a folder that transformers loads. Refuses a model whose routing needs a bias the format lacks."""
    for name, buffer in model.named_buffers():
        if name.endswith("selection_bias") and bool(buffer.any()):
            raise CheckpointError(
                f"{name} is not zero (max {buffer.abs().max():.3g}): the format has no place for it"
            )
    directory.mkdir(parents=True, exist_ok=True)
    prefix = "" if model.config.vision is not None else PREFIX
    tensors = {
        name.removeprefix(prefix): tensor.detach().to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_bytes_atomically(directory / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    specials = NUM_RELEASED_SPECIALS if num_special_tokens is None else num_special_tokens
    for name, text in model_files(model.config, specials).items():
        write_text_atomically(directory / name, text)


def save_dense_model(
    model: Llama4,
    directory: Path,
    dtype: torch.dtype = torch.bfloat16,
    text_files: Mapping[str, str] | None = None,
) -> None:
    """Writes an all-dense, all-RoPE member as `LlamaForCausalLM`, with the tokenizer's files beside it.

    CheckpointError for any other member.
    """
    config = dense_config_to_hf(model.config) | {"torch_dtype": str(dtype).removeprefix("torch.")}
    directory.mkdir(parents=True, exist_ok=True)
    head_dim = model.config.text.head_dim
    tensors = {
        dense_name_to_hf(name): rows_to_hf(name, tensor.detach().to(dtype), head_dim).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_bytes_atomically(directory / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    for name, text in (text_files or {}).items():
        write_text_atomically(directory / name, text)
    write_text_atomically(directory / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def is_model_dir(directory: Path) -> bool:
    """Whether the folder holds a model in this layout."""
    return (directory / CONFIG).is_file() and any((directory / name).is_file() for name in (WEIGHTS, INDEX))


def load_config(directory: Path) -> Llama4Config:
    """Reads config.json, and the number of tiles from preprocessor_config.json if there is one."""
    values = _read_json(directory / CONFIG)
    if is_dense_hf(values):
        return dense_config_from_hf(values)
    if (kind := values.get("model_type", "llama4")) not in ("llama4", "llama4_text"):
        raise CheckpointError(f"{directory / CONFIG}: model_type is {kind!r}, which is no Llama")
    preprocessor = directory / PREPROCESSOR
    max_tiles = _read_json(preprocessor).get("max_patches", 16) if preprocessor.is_file() else 16
    return config_from_hf(values, max_tiles)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return values


def load_model(
    directory: Path, dtype: torch.dtype = torch.float32, *, absolute_positions: bool = False
) -> Llama4:
    """A model with its weights, in evaluation mode.

    CheckpointError says which file and which tensor is missing, unexpected, truncated or of another shape.
    """
    with torch.device("meta"):
        model = Llama4(load_config(directory), absolute_positions=absolute_positions)
    is_dense = is_dense_hf(_read_json(directory / CONFIG))
    model.to_empty(device="cpu").to(dtype)
    prefix = "" if model.config.vision is not None or is_dense else PREFIX
    wanted = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items()}
    for name, buffer in model.named_buffers():
        if name.endswith("selection_bias"):
            buffer.zero_()
    missing = set(wanted)
    for shard in _shards(directory):
        missing -= _fill(directory / shard, wanted, model.config.text if is_dense else None)
    if missing:
        raise CheckpointError(f"{directory}: {len(missing)} tensors are missing, first {min(missing)}")
    return model.eval()


def _shards(directory: Path) -> list[str]:
    index = directory / INDEX
    if not index.is_file():
        return [WEIGHTS]
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} lacks a weight_map")
    return sorted(set(weight_map.values()))


def _fill(path: Path, wanted: Mapping[str, Tensor], dense: TextConfig | None) -> set[str]:
    """Copies a file's tensors to where they are wanted; returns their names there.

    `dense` is given for a file in the layout of `LlamaForCausalLM`.
    """
    found: set[str] = set()
    try:
        with safe_open(path, "pt") as file:
            for stored in file.keys():  # noqa: SIM118, the library's handle is no mapping
                name = stored if dense is None else dense_name_from_hf(stored)
                # A tied head may be stored as well; transformers takes the embedding, too.
                if name is None or (dense and dense.tie_word_embeddings and stored == "lm_head.weight"):
                    continue
                if name not in wanted:
                    raise CheckpointError(f"{path}: unexpected tensor {stored}")
                shape, expected = tuple(file.get_slice(stored).get_shape()), tuple(wanted[name].shape)
                if shape != expected:
                    raise CheckpointError(f"{path}: {stored} has shape {shape}, expected {expected}")
                tensor = file.get_tensor(stored)
                wanted[name].copy_(tensor if dense is None else rows_from_hf(name, tensor, dense.head_dim))
                found.add(name)
            return found
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from error
