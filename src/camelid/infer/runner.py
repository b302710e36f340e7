"""Runs steps of a model over paged sequences: in native code where it can, else as the model itself, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from camelid.model import Llama4
from camelid.model.native import NativeModel, Portion
from camelid.model.packed import pack_for_decoding
from camelid.model.paged_kv import PagedKV
from camelid.ops.native import native_paths
from camelid.ops.quantization import Bits
from camelid.quantize import round_weights

__all__ = ["NativeRunner", "Runner", "TorchRunner", "make_runner"]


class Runner(Protocol):
    """What the engine needs of a model."""

    def embed(
        self,
        token_ids: Int[Tensor, "tokens"],
        tiles: UInt8[Tensor, "tiles 3 size size"] | None = None,
        patch_positions: Int[Tensor, "patches"] | None = None,
    ) -> Float[Tensor, "tokens hidden"]:
        """As `Llama4.embed`."""

    def step(
        self, portions: Sequence[Portion]
    ) -> tuple[Float[Tensor, "wanted vocab"], Int[Tensor, "layers rows top_k"]]:
        """As `NativeModel`: fp32 logits on the CPU, and the experts chosen, -1 in dense layers."""


class TorchRunner:
    """Any dtype, any device; every sequence is a forward pass of its own."""

    def __init__(self, model: Llama4, kv: PagedKV) -> None:
        self._model, text = model, model.config.text
        self._num_layers, self._top_k = text.num_hidden_layers, text.num_experts_per_tok
        self._device = model.language_model.head_weight.device
        self._vocab_size = text.vocab_size

    def embed(
        self, token_ids: Tensor, tiles: Tensor | None = None, patch_positions: Tensor | None = None
    ) -> Tensor:
        pictures = [None if value is None else value.to(self._device) for value in (tiles, patch_positions)]
        return self._model.embed(token_ids.to(self._device), *pictures)

    def step(self, portions: Sequence[Portion]) -> tuple[Tensor, Tensor]:
        logits, routed = [torch.empty(0, self._vocab_size)], []
        for portion in portions:
            inputs = portion.inputs
            embeddings = inputs if isinstance(inputs, Tensor) else self.embed(torch.tensor(inputs))
            output = self._model.forward_embedded(embeddings, cache=portion.table)
            if portion.logit_rows:
                wanted = output.hidden[torch.tensor(portion.logit_rows, device=self._device)]
                logits.append(self._model.logits(wanted).float().cpu())
            none = torch.full((len(portion.inputs), self._top_k), -1)
            routings = [output.routers.get(layer) for layer in range(self._num_layers)]
            routed.append(torch.stack([none if r is None else r.expert_ids.cpu() for r in routings]))
        return torch.cat(logits), torch.cat(routed, dim=1)


class NativeRunner:
    """A packed bf16 model on a CPU, all sequences in one call."""

    def __init__(self, model: Llama4, kv: PagedKV) -> None:
        self._model, self._native = model, NativeModel(model, kv)

    def embed(
        self, token_ids: Tensor, tiles: Tensor | None = None, patch_positions: Tensor | None = None
    ) -> Tensor:
        return self._model.embed(token_ids, tiles, patch_positions)

    def step(self, portions: Sequence[Portion]) -> tuple[Tensor, Tensor]:
        return self._native(portions)


def make_runner(model: Llama4, kv: PagedKV, weight_bits: Bits | None = None) -> Runner:
    """The fastest that this model has here. A bf16 model on a CPU is packed, and serves nothing else afterwards.

    Elsewhere weights of fewer bits are rounded, but take no less memory.
    """
    weight = model.language_model.head_weight
    if weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and native_paths():
        with torch.inference_mode():
            pack_for_decoding(model.language_model, weight_bits)
        return NativeRunner(model, kv)
    if weight_bits:
        round_weights(model, weight_bits)
    return TorchRunner(model, kv)
