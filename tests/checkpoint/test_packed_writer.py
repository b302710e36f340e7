"""Packed matrices as compressed-tensors unpacks them, and whole folders there and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

from camelid.checkpoint import load_model, open_model, save_model, write_hf
from camelid.checkpoint.lazy_tensor import in_memory
from camelid.checkpoint.packed_writer import packed_tensors, quantization_config
from camelid.core.errors import CheckpointError
from camelid.model import Llama4
from camelid.ops.quantization import Bits, quantize_groups
from camelid.quantize import round_weights
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_model

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize("bits", [8, 4])
def test_its_library_reads_the_same(bits: Bits) -> None:
    weight = torch.randn(24, 96, generator=torch.Generator().manual_seed(0))
    packed = packed_tensors({Q_PROJ: in_memory(weight)}, bits)
    state = {
        name.removeprefix(Q_PROJ.removesuffix("weight")): tensor.read(None) for name, tensor in packed.items()
    }
    group = quantization_config(bits)["config_groups"]["group_0"]
    scheme = QuantizationScheme(targets=group["targets"], weights=QuantizationArgs(**group["weights"]))
    theirs = PackedQuantizationCompressor.decompress(state, scheme)["weight"]
    assert torch.equal(theirs.float(), quantize_groups(weight, bits).dequantize().to(theirs.dtype).float())


def model_of_whole_groups() -> Llama4:
    return tiny_model(
        "maverick", hidden_size=64, intermediate_size=32, intermediate_size_mlp=64, head_dim=16
    ).bfloat16()


@pytest.mark.parametrize("bits", [8, 4])
def test_a_folder(bits: Bits, tmp_path: Path) -> None:
    """Reads as the same model with rounded weights, all but the head, and takes about as many bits."""
    model = model_of_whole_groups()
    save_model(model, tmp_path / "plain", torch.bfloat16, NUM_SPECIAL_TOKENS)
    stored = open_model(tmp_path / "plain")
    write_hf(stored, tmp_path / "packed", bits=bits)
    assert json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"][
        "quant_method"
    ]
    found = load_model(tmp_path / "packed", torch.bfloat16).state_dict()
    head = model.language_model.lm_head.weight.clone()
    round_weights(model, bits)
    with torch.no_grad():
        model.language_model.lm_head.weight.copy_(head)
    for name, weight in model.state_dict().items():
        assert torch.equal(found[name], weight), name


def test_ragged_groups_are_refused() -> None:
    with pytest.raises(CheckpointError, match="has 40 inputs, which are not whole groups of 32"):
        packed_tensors({Q_PROJ: in_memory(torch.zeros(8, 40))}, 4)
