"""Models larger than memory: weights that every token meets are mapped, experts stay on disk until they are chosen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from camelid.checkpoint.any_layout import load_model, open_model
from camelid.checkpoint.lazy_tensor import LazyTensor
from camelid.checkpoint.stored_model import StoredModel
from camelid.core.memory import available_memory
from camelid.model import Llama4
from camelid.model.counting import expert_parameters
from camelid.model.streamed_experts import ExpertCache, StreamedExperts

__all__ = ["StreamPlan", "load_streamed", "load_within", "plan_stream"]

EXPERTS = ".feed_forward.experts."
LAYERS = "language_model.model.layers"
GIGA = 1e9


@dataclass(frozen=True)
class StreamPlan:
    """What running from disk will cost, in bytes and seconds."""

    mapped_bytes: int  # met by every token
    cache_bytes: int  # for experts in memory
    expert_bytes: int  # of one expert in one layer
    num_experts: int  # of all layers together
    experts_per_token: int
    read_seconds: float  # for one expert, measured once

    @property
    def seconds_per_token(self) -> float:
        """At most, for reading: when routing is even and the cache holds its share."""
        missing = 1 - min(1.0, self.cache_bytes // self.expert_bytes / self.num_experts)
        return self.experts_per_token * missing * self.read_seconds

    def __str__(self) -> str:
        rate = self.expert_bytes / self.read_seconds / GIGA
        return (
            f"{self.mapped_bytes / GIGA:.1f} GB of weights are mapped, "
            f"{self.num_experts * self.expert_bytes / GIGA:.1f} GB of experts stay on disk and "
            f"{self.cache_bytes / GIGA:.1f} GB of memory keep those used last; a token reads "
            f"{self.experts_per_token * self.expert_bytes / GIGA:.1f} GB at {rate:.1f} GB/s when none is kept: "
            f"about {self.seconds_per_token:.1f} s per token"
        )


def load_within(
    directory: Path,
    memory_bytes: int | None = None,
    dtype: torch.dtype = torch.float32,
    announce: Callable[[StreamPlan], None] = lambda _: None,
) -> Llama4:
    """A model within a bound of memory for its weights (default: what is free).

    In `dtype` if that fits, else as it is stored, else with its experts on disk; then `announce` hears the cost
    before anything starts. CheckpointError as `load_model`, which also checks digests; from disk nobody could.
    """
    memory = available_memory() if memory_bytes is None else memory_bytes
    model = open_model(directory)
    if not model.config.text.moe_layers or model.to(dtype).nbytes <= memory:
        return load_model(directory, dtype)
    stored_as = max((tensor for tensor in model.tensors.values()), key=lambda tensor: tensor.numel).dtype
    if model.to(stored_as).nbytes <= memory:
        return load_model(directory, stored_as)
    model = model.to(stored_as)
    plan = plan_stream(model, memory)
    announce(plan)
    return load_streamed(model, plan)


def plan_stream(model: StoredModel, memory_bytes: int) -> StreamPlan:
    """Divides `memory_bytes`: what remains beside the mapped weights keeps experts, at least two of them."""
    text = model.config.text
    experts = [tensor for name, tensor in model.tensors.items() if EXPERTS in name]
    expert_bytes = expert_parameters(model.config) * experts[0].dtype.itemsize
    mapped_bytes = model.nbytes - sum(tensor.nbytes for tensor in experts)
    start = time.perf_counter()
    _read(model, text.moe_layers[0], text.num_local_experts - 1)
    return StreamPlan(
        mapped_bytes,
        max(2 * expert_bytes, memory_bytes - mapped_bytes),
        expert_bytes,
        len(text.moe_layers) * text.num_local_experts,
        len(text.moe_layers) * text.num_experts_per_tok,
        time.perf_counter() - start,
    )


def _expert_tensors(model: StoredModel, layer: int) -> tuple[LazyTensor, LazyTensor]:
    stem = f"{LAYERS}.{layer}{EXPERTS}"
    return model.tensors[f"{stem}gate_up_proj"], model.tensors[f"{stem}down_proj"]


def _read(model: StoredModel, layer: int, expert: int) -> tuple[Tensor, Tensor]:
    gate_up, down = _expert_tensors(model, layer)
    return gate_up.read(expert), down.read(expert)


def load_streamed(model: StoredModel, plan: StreamPlan) -> Llama4:
    """The model in evaluation mode and in its own dtype. It cannot be trained or saved: its experts are elsewhere."""
    with torch.device("meta"):
        llama = Llama4(model.config)
    cache = ExpertCache(plan.cache_bytes)
    for layer in model.config.text.moe_layers:

        def read(expert: int, layer: int = layer) -> tuple[Tensor, Tensor]:
            return _read(model, layer, expert)

        feed_forward = llama.get_submodule(f"{LAYERS}.{layer}.feed_forward")
        feed_forward.experts = StreamedExperts(layer, read, cache)
    for name, tensor in model.checked().tensors.items():
        if EXPERTS not in name:
            path, _, attribute = name.rpartition(".")
            value = tensor.map() if tensor.map is not None else tensor.read(None)
            setattr(llama.get_submodule(path), attribute, nn.Parameter(value, requires_grad=False))
    for name, buffer in list(llama.named_buffers()):
        path, _, attribute = name.rpartition(".")
        setattr(llama.get_submodule(path), attribute, torch.zeros_like(buffer, device="cpu"))
    return llama.eval()
