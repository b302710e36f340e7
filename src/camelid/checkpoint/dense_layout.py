"""Llama 3 and its like (`LlamaForCausalLM`) as members of the family: every layer dense and with RoPE.

Two things differ from Llama 4's own layout. The MLP is called `mlp`. And Hugging Face stores the rows of q and k so
that RoPE turns feature i with feature i + head_dim / 2 of a head; Meta's pairs, which we compute with, are neighbours.
A permutation of rows leads from one to the other and changes no bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from camelid.checkpoint.lazy_tensor import LazyTensor, WeightMap
from camelid.checkpoint.stored_model import StoredModel
from camelid.core.errors import CheckpointError, ConfigError
from camelid.model import Llama4Config, RopeScaling, TextConfig

__all__ = [
    "dense_config_from_hf",
    "dense_config_to_hf",
    "dense_files",
    "dense_tensors_from_hf",
    "dense_tensors_to_hf",
    "is_dense_hf",
    "rows_from_hf",
    "rows_to_hf",
]

CONFIG = "config.json"
PREFIX = "language_model."
ROTATED = re.compile(r"\.self_attn\.[qk]_proj\.weight$")
# Old files carry the frequencies, which every reader computes anew.
IGNORED = re.compile(r"\.rotary_emb\.inv_freq$")
# Fields, and the only value that our decoder computes; a config that lacks one means it.
FIXED: dict[str, Any] = {
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "sliding_window": None,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
    "logit_softcapping": None,
}
# What `LlamaConfig` takes where config.json is silent, as files written before a field existed are.
DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}


def is_dense_hf(values: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a dense Llama."""
    return values.get("model_type") == "llama"


def dense_config_from_hf(values: Mapping[str, Any]) -> Llama4Config:
    """A `LlamaConfig` as ours. CheckpointError names what lacks, and what our decoder does not compute."""
    if not is_dense_hf(values):
        raise CheckpointError(f"{CONFIG}: model_type is {values.get('model_type')!r}, expected 'llama'")
    for name, expected in FIXED.items():
        if (found := values.get(name)) not in (None, expected):
            raise CheckpointError(f"{CONFIG}: {name} is {found!r}, only {expected!r} can be represented")
    others = set(values.get("layer_types") or ()) - {"full_attention"}
    if others:
        raise CheckpointError(
            f"{CONFIG}: layer_types has {min(others)!r}, only full_attention can be represented"
        )
    rope = values.get("rope_parameters") or {}  # where transformers 5 moved theta and scaling
    scaling = values.get("rope_scaling") or rope
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ("default", "llama3"):
        raise CheckpointError(f"{CONFIG}: rope_type is {kind!r}, only default and llama3 can be represented")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            f"{CONFIG}: partial_rotary_factor is {rope['partial_rotary_factor']}, expected 1.0"
        )
    values = DEFAULTS | dict(rope) | dict(values)
    try:
        hidden, heads = values["hidden_size"], values["num_attention_heads"]
        text = {
            "vocab_size": values["vocab_size"],
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": values.get("num_key_value_heads") or heads,
            "head_dim": values.get("head_dim") or hidden // heads,
            "intermediate_size": values["intermediate_size"],
            "num_hidden_layers": values["num_hidden_layers"],
            "rope_scaling": {field.name: scaling[field.name] for field in fields(RopeScaling)}
            if kind == "llama3"
            else None,
        }
        return dense_config(**text, **{name: values[name] for name in DEFAULTS})
    except KeyError as error:
        raise CheckpointError(f"{CONFIG} lacks the field {error}") from error
    except (ConfigError, TypeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{CONFIG}: {error}") from error


def dense_config(*, num_hidden_layers: int, intermediate_size: int, **same: Any) -> Llama4Config:
    """The member of the family with this many dense layers and one chunk as long as the context."""
    text = same | {
        "intermediate_size": intermediate_size,
        "intermediate_size_mlp": intermediate_size,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "layer_types": ["chunked"] * num_hidden_layers,
        "moe_layers": [],
        "attention_chunk_size": same["max_position_embeddings"],
        "use_qk_norm": False,
        "attn_temperature_tuning": False,
    }
    return Llama4Config.from_dict({"text": text})


def dense_config_to_hf(config: Llama4Config) -> dict[str, Any]:
    """The config.json of `LlamaForCausalLM`; CheckpointError for a member that has more than a dense Llama has."""
    text = config.text
    _require_dense(config)
    scaling = text.rope_scaling
    same = ("vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", *DEFAULTS)
    return {name: getattr(text, name) for name in same} | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "intermediate_size": text.intermediate_size_mlp,
        "num_hidden_layers": text.num_hidden_layers,
        "rope_scaling": None if scaling is None else scaling.to_dict() | {"rope_type": "llama3"},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        # LlamaConfig would guess Llama 2's; generation_config.json and the tokenizer know.
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _require_dense(config: Llama4Config) -> None:
    text: TextConfig = config.text
    surplus = {
        "a vision encoder": config.vision is not None,
        f"experts in layers {text.moe_layers}": bool(text.moe_layers),
        "QK norm": text.use_qk_norm,
        f"layers without RoPE, or chunks of {text.attention_chunk_size:,} in a context of "
        f"{text.max_position_embeddings:,}": not text.is_all_rope,
    }
    if named := [name for name, is_there in surplus.items() if is_there]:
        raise CheckpointError(f"LlamaForCausalLM has no place for {'; '.join(named)}")


def dense_name_from_hf(name: str) -> str | None:
    """Our name of a tensor of the file; None for one that nobody needs."""
    return None if IGNORED.search(name) else PREFIX + name.replace(".mlp.", ".feed_forward.")


def dense_name_to_hf(name: str) -> str:
    """The inverse of `dense_name_from_hf`."""
    return name.removeprefix(PREFIX).replace(".feed_forward.", ".mlp.")


def rows_from_hf(name: str, weight: Float[Tensor, "*shape"], head_dim: int) -> Float[Tensor, "*shape"]:
    """Rows in our order: q and k from halves, (0, d/2), (1, d/2 + 1), …, to neighbours; all else as it is."""
    if not ROTATED.search(name):
        return weight
    halves: Tensor = weight.unflatten(0, (-1, 2, head_dim // 2))
    return halves.transpose(1, 2).flatten(0, 2)


def rows_to_hf(name: str, weight: Float[Tensor, "*shape"], head_dim: int) -> Float[Tensor, "*shape"]:
    """The inverse of `rows_from_hf`."""
    if not ROTATED.search(name):
        return weight
    pairs: Tensor = weight.unflatten(0, (-1, head_dim // 2, 2))
    return pairs.transpose(1, 2).flatten(0, 2)


def dense_tensors_from_hf(tensors: WeightMap, config: Llama4Config) -> dict[str, LazyTensor]:
    """A folder's tensors under our names and in our order, still on disk.

    A head stored beside a tied embedding is passed over, as transformers does.
    """
    ours: dict[str, LazyTensor] = {}
    for stored, tensor in tensors.items():
        name = dense_name_from_hf(stored)
        if name is not None and not (config.text.tie_word_embeddings and stored == "lm_head.weight"):
            ours[name] = _rearranged(tensor, partial(rows_from_hf, name, head_dim=config.text.head_dim))
    return ours


def dense_tensors_to_hf(tensors: WeightMap, config: Llama4Config) -> dict[str, LazyTensor]:
    """The inverse of `dense_tensors_from_hf`."""
    return {
        dense_name_to_hf(name): _rearranged(tensor, partial(rows_to_hf, name, head_dim=config.text.head_dim))
        for name, tensor in tensors.items()
    }


def dense_files(model: StoredModel) -> dict[str, str]:
    """config.json by its name; CheckpointError as `dense_config_to_hf`."""
    dtype = next(iter(model.tensors.values())).dtype
    values = dense_config_to_hf(model.config) | {"torch_dtype": str(dtype).removeprefix("torch.")}
    return {CONFIG: json.dumps(values, indent=2, sort_keys=True) + "\n"}


def _rearranged(tensor: LazyTensor, arrange: Callable[[Tensor], Tensor]) -> LazyTensor:
    def read(row: int | None) -> Tensor:
        whole = arrange(tensor.read(None))
        return whole if row is None else whole[row]

    return LazyTensor(tensor.shape, tensor.dtype, read, tensor.source)
