"""Adapters on disk as PEFT writes them: adapter_config.json and adapter_model.safetensors.

PEFT reads Llama 4's experts [experts, rows, columns] as [experts, out, in]. So its A of an expert is our second
factor and its B our first, and it flattens both to matrices, A expert by expert, B rank by rank. Of two adapted
parameters of one module, the one named first lies deeper, behind `base_layer`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from camelid.checkpoint.lazy_tensor import LazyTensor
from camelid.checkpoint.stored_model import StoredModel
from camelid.core.errors import CheckpointError, ConfigError
from camelid.core.files import write_bytes_atomically, write_text_atomically
from camelid.model import Llama4, LoraConfig, add_lora
from camelid.model.lora import LINEAR_TARGETS, LoraExperts, LoraLinear

__all__ = ["base_of", "is_adapter_dir", "load_adapter", "merge_adapter", "save_adapter"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
DECODER = "language_model."
EXPERT_PARAMETERS = ("gate_up_proj", "down_proj")
# Settings that change what an adapter computes and that we do not have; anything but these values is refused.
NOT_OURS: Mapping[str, Any] = {
    "use_dora": False, "lora_bias": False, "bias": "none", "fan_in_fan_out": False, "modules_to_save": None,
    "rank_pattern": {}, "alpha_pattern": {}, "layer_replication": None, "trainable_token_indices": None,
}  # fmt: skip


def save_adapter(model: Llama4, config: LoraConfig, directory: Path, base: str) -> None:
    """Writes the adapters of a model into a folder that PEFT reads. `base` says which model they belong to."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().reshape(shape).contiguous() for name, value, shape in _peft_tensors(model)
    }
    if not tensors:
        raise CheckpointError(f"{directory}: the model has no adapters to save")
    write_bytes_atomically(directory / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    decoder = "" if model.config.vision is None else rf"{DECODER.removesuffix('.')}\."
    values = dict(NOT_OURS) | {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "target_modules": rf"{decoder}model\.layers\..*\.({'|'.join(config.targets)})"
        if config.targets
        else [],
        "target_parameters": [f"feed_forward.experts.{name}" for name in EXPERT_PARAMETERS]
        if config.experts and any(isinstance(module, LoraExperts) for module in model.modules())
        else None,
    }
    write_text_atomically(directory / CONFIG, json.dumps(values, indent=2, sort_keys=True) + "\n")


def is_adapter_dir(directory: Path) -> bool:
    """Whether the folder holds an adapter in this layout."""
    return (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file()


def base_of(directory: Path) -> Path:
    """The model that an adapter belongs to, as its config has it: a path, or one from the adapter's own folder."""
    try:
        named = str(json.loads((directory / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{directory / CONFIG}: {type(error).__name__}: {error}") from error
    for path in (directory / named, Path(named)):
        if path.exists() and not is_adapter_dir(path):
            return path
    raise CheckpointError(
        f"{directory} belongs to {named}, which is not there; `base_model_name_or_path` names it"
    )


def merge_adapter(base: StoredModel, directory: Path) -> StoredModel:
    """The base with an adapter in it, added in fp32 while tensors are read."""
    with torch.device("meta"):
        model = Llama4(base.config)
    load_adapter(model, directory)
    tensors = dict(base.tensors)
    for path, module in _adapted_modules(model).items():
        for name in module.adapted():
            tensors[f"{path}.{name}"] = _changed(tensors[f"{path}.{name}"], partial(module.change, name))
    return replace(base, tensors=tensors, origin=f"{directory} on {base.origin}")


def _changed(tensor: LazyTensor, change: Callable[[int | None], Tensor]) -> LazyTensor:
    return LazyTensor(
        tensor.shape, torch.float32, lambda row: tensor.read(row).float() + change(row), tensor.source
    )


def _adapted_modules(model: Llama4) -> dict[str, LoraLinear | LoraExperts]:
    return {
        path: module for path, module in model.named_modules() if isinstance(module, LoraLinear | LoraExperts)
    }


def load_adapter(model: Llama4, directory: Path) -> LoraConfig:
    """Puts a PEFT adapter on a plain model, in place. Of a model on the meta device the adapters alone get memory.

    CheckpointError names what the adapter has that we do not (DoRA, ranks that differ, adapted embeddings), and
    any tensor that is missing, left over or of another shape.
    """
    path = directory / WEIGHTS
    config, scale = _read_config(directory / CONFIG)
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    config = config.replace(
        targets=tuple(name for name in LINEAR_TARGETS if any(f".{name}.lora_A." in key for key in tensors)),
        experts=any(".experts." in key for key in tensors),
        alpha=scale * config.rank,
    )
    add_lora(model, config)
    with torch.no_grad():
        for module in _adapted_modules(model).values():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if "lora_" in name and parameter.is_meta:
                    setattr(module, name, nn.Parameter(torch.empty(parameter.shape)))
        for name, value, shape in _peft_tensors(model):
            if name not in tensors:
                raise CheckpointError(f"{path}: {name} is missing")
            found = tensors.pop(name)
            if found.shape != shape:
                raise CheckpointError(f"{path}: {name} has shape {tuple(found.shape)}, expected {shape}")
            value.copy_(found.view(value.shape))
    if tensors:
        raise CheckpointError(f"{path}: {len(tensors)} tensors fit nowhere, first {min(tensors)}")
    return config


def _read_config(path: Path) -> tuple[LoraConfig, float]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("peft_type") != "LORA":
            raise CheckpointError(f"{path}: peft_type is {values.get('peft_type')!r}, expected 'LORA'")
        for name, value in NOT_OURS.items():
            if values.get(name, value) not in (value, None):
                raise CheckpointError(f"{path}: {name} is {values[name]!r}; only {value!r} can be loaded")
        rank, alpha = int(values["r"]), float(values["lora_alpha"])
        scale = alpha / rank**0.5 if values.get("use_rslora") else alpha / rank
        return LoraConfig(rank=rank, alpha=alpha), scale
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ZeroDivisionError) as error:
        if isinstance(error, ConfigError | CheckpointError):
            raise
        raise CheckpointError(f"{path}: {type(error).__name__}: {error}") from error


def _peft_tensors(model: Llama4) -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
    """PEFT's name of every adapter tensor, a view of ours in its order, and the shape in which PEFT has it."""
    drop = "" if model.config.vision is not None else DECODER
    for path, module in model.named_modules():
        name = PREFIX + path.removeprefix(drop)
        if isinstance(module, LoraLinear):
            yield f"{name}.lora_A.weight", module.lora_a, tuple(module.lora_a.shape)
            yield f"{name}.lora_B.weight", module.lora_b, tuple(module.lora_b.shape)
        elif isinstance(module, LoraExperts):
            for depth, (_, a, b) in zip((".base_layer", ""), module.factors(), strict=True):
                experts, rank, columns = b.shape
                yield f"{name}{depth}.lora_A.weight", b, (experts * rank, columns)
                yield f"{name}{depth}.lora_B.weight", a.permute(1, 2, 0), (a.shape[1], rank * experts)
