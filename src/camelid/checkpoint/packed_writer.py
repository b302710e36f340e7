"""Matrices in fewer bits on disk, as compressed-tensors packs them: transformers and vLLM read it, and so do we.

Reading gives bf16. Quantised once more in as many bits, that is the same whole numbers and scales again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from camelid.checkpoint.lazy_tensor import LazyTensor, WeightMap, in_memory
from camelid.core.errors import CheckpointError
from camelid.ops.quantization import GROUP_SIZE, Bits, QuantizedMatrix, quantize_groups

__all__ = ["packed_tensors", "quantization_config"]

WORD_BITS = 32
DECODER = r"(?:language_model\.)?model\.layers\.\d+\."
MATRIX = re.compile(
    DECODER
    + r"(?:self_attn\.[qkvo]_proj|(?:feed_forward|mlp)\.(?:shared_expert\.)?(?:gate|up|down)_proj)\.weight"
)
EXPERTS = re.compile(f"({DECODER}feed_forward" + r"\.experts)\.(gate_up|down)_proj")


def quantization_config(bits: Bits) -> dict[str, Any]:
    """For config.json. Router, embeddings, head and vision tower stay as they are."""
    weights = {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": GROUP_SIZE,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", "re:.*router", "re:.*vision_model.*", "re:.*multi_modal_projector.*"],
    }


def packed_tensors(tensors: WeightMap, bits: Bits) -> dict[str, LazyTensor]:
    """The decoder's matrices as packed words, scales and shapes; fused experts one by one, [out, in].

    CheckpointError for inputs that are not whole groups, which the format has no place for.
    """
    packed: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if match := EXPERTS.fullmatch(name):
            kinds = ("gate", "up") if match[2] == "gate_up" else ("down",)
            for expert in range(tensor.shape[0]):
                for index, kind in enumerate(kinds):
                    matrix = _expert_matrix(tensor, expert, index, len(kinds))
                    packed |= _packed(f"{match[1]}.{expert}.{kind}_proj.weight", matrix, bits)
        elif MATRIX.fullmatch(name):
            packed |= _packed(name, tensor, bits)
        else:
            packed[name] = tensor
    return packed


def _expert_matrix(stacked: LazyTensor, expert: int, index: int, count: int) -> LazyTensor:
    """One of `count` matrices that lie side by side in an expert's [in, out]."""
    _, width, height = stacked.shape

    def read(row: int | None) -> Tensor:
        matrix: Tensor = stacked.read(expert).chunk(count, dim=1)[index].T
        return matrix if row is None else matrix[row]

    return LazyTensor((height // count, width), stacked.dtype, read, stacked.source)


def _packed(name: str, matrix: LazyTensor, bits: Bits) -> dict[str, LazyTensor]:
    height, width = matrix.shape
    if width % GROUP_SIZE:
        raise CheckpointError(
            f"{matrix.source} has {width} inputs, which are not whole groups of {GROUP_SIZE}"
        )
    per_word = WORD_BITS // bits

    @lru_cache(1)
    def quantized() -> QuantizedMatrix:
        return quantize_groups(matrix.read(None), bits)

    def words(row: int | None) -> Tensor:
        unsigned = (quantized().values.long() + (1 << (bits - 1))).unflatten(1, (-1, per_word))
        packed: Tensor = (unsigned << torch.arange(0, WORD_BITS, bits)).sum(-1).to(torch.int32)
        return packed if row is None else packed[row]

    def scales(row: int | None) -> Tensor:
        found = quantized().scales
        quantized.cache_clear()
        return found if row is None else found[row]

    return {
        f"{name}_packed": LazyTensor((height, width // per_word), torch.int32, words, matrix.source),
        f"{name}_scale": LazyTensor((height, width // GROUP_SIZE), torch.bfloat16, scales, matrix.source),
        f"{name}_shape": in_memory(torch.tensor([height, width])),
    }
