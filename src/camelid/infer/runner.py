"""Runs steps of a model over paged sequences: in native code where it can, else as the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from camelid.infer.torch_runner import TorchRunner
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
