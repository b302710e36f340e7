"""What routers chose for every token of some batches: the raw observations that specialisation is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from camelid.core import MODALITIES, Batch
from camelid.core.errors import ConfigError
from camelid.model import Llama4

__all__ = ["RoutingTrace", "trace_routing"]


@dataclass(frozen=True)
class RoutingTrace:
    """Choices of all MoE layers, best first, and what is known of each token.

    `is_patch` marks patch tokens. `document_ids` number the documents of all batches; `document_sources` and
    `document_modalities` say what those are. `gate_sums` are the scores (sigmoid of the chosen logit) summed per layer
    and expert.
    """

    layers: tuple[int, ...]
    num_experts: int
    expert_ids: Int[Tensor, "layers tokens top_k"]
    gate_sums: Float[Tensor, "layers experts"]
    token_ids: Int[Tensor, "tokens"]
    positions: Int[Tensor, "tokens"]
    is_patch: Bool[Tensor, "tokens"]
    document_ids: Int[Tensor, "tokens"]
    document_sources: tuple[str, ...]
    document_modalities: tuple[str, ...]

    @property
    def num_tokens(self) -> int:
        return self.token_ids.shape[0]

    @property
    def source_names(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted(set(self.document_sources)))

    @property
    def modality_names(self) -> tuple[str, ...]:
        """Those that occur."""
        return tuple(name for name in MODALITIES if name in self.document_modalities)


@torch.inference_mode()
def trace_routing(
    model: Llama4, batches: Iterable[Batch], on_progress: Callable[[int], object] = lambda num_tokens: None
) -> RoutingTrace:
    """One forward pass over each batch. ConfigError for a model without experts, or for no batch at all."""
    text = model.config.text
    layers = tuple(sorted(text.moe_layers))
    if not layers:
        raise ConfigError(f"this model has no experts in its {text.num_hidden_layers} layers")
    device = next(model.parameters()).device
    choices: list[Tensor] = []
    token_ids: list[Tensor] = []
    positions: list[Tensor] = []
    patches: list[Tensor] = []
    document_ids: list[Tensor] = []
    sources: list[str] = []
    modalities: list[str] = []
    gate_sums = torch.zeros(len(layers), text.num_local_experts, dtype=torch.float64)
    for batch in batches:
        on_device = batch.to(device)
        routers = model(
            on_device.token_ids, batch.document_lengths, on_device.tiles, on_device.patch_positions
        ).routers
        choices.append(
            torch.stack([routers[layer].expert_ids for layer in layers]).short().cpu()
        )  # it adds up
        for row, layer in zip(gate_sums, layers, strict=True):
            ids = routers[layer].expert_ids
            gates = routers[layer].logits.gather(-1, ids).sigmoid()
            row.index_add_(0, ids.flatten().cpu(), gates.flatten().double().cpu())
        lengths = torch.tensor(batch.document_lengths)
        numbers = torch.arange(len(sources), len(sources) + len(lengths))
        token_ids.append(batch.token_ids.cpu())
        positions.append(torch.cat([torch.arange(length) for length in batch.document_lengths]))
        is_patch = torch.zeros(batch.num_tokens, dtype=torch.bool)
        patches.append(is_patch.index_fill_(0, batch.patch_positions.cpu(), True))
        document_ids.append(numbers.repeat_interleave(lengths))
        sources += batch.document_sources or ("",) * len(lengths)
        modalities += batch.document_modalities
        on_progress(batch.num_tokens)
    if not choices:
        raise ConfigError("no batch to trace")
    return RoutingTrace(
        layers=layers,
        num_experts=text.num_local_experts,
        expert_ids=torch.cat(choices, dim=1).long(),
        gate_sums=gate_sums,
        token_ids=torch.cat(token_ids),
        positions=torch.cat(positions),
        is_patch=torch.cat(patches),
        document_ids=torch.cat(document_ids),
        document_sources=tuple(sources),
        document_modalities=tuple(modalities),
    )
