"""Few bits against the library that writes them, and whole models in the quantised releases' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import load_file, save_file
from torch import Tensor

from camelid.checkpoint import load_model, save_model
from camelid.checkpoint.lazy_tensor import in_memory
from camelid.checkpoint.quantized_layouts import dequantized, fused_experts
from camelid.core.errors import CheckpointError
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_model

SCHEMES: dict[str, dict[str, Any]] = {
    "fp8 per output": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "fp8 per tensor": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    "fp8 blocks": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [4, 8]},
    "int8 per output": {"num_bits": 8, "type": "int", "strategy": "channel"},
    "int4 groups": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 8},
    "int4 per output": {"num_bits": 4, "type": "int", "strategy": "channel"},
    "int4 asymmetric": {
        "num_bits": 4,
        "type": "int",
        "strategy": "group",
        "group_size": 8,
        "symmetric": False,
    },
    "int8 packed": {"num_bits": 8, "type": "int", "strategy": "group", "group_size": 16},
}


def compressed(weight: Tensor, kind: str) -> tuple[dict[str, Tensor], Tensor]:
    """What compressed-tensors writes for a weight [out, in], and what it reads back."""
    settings = SCHEMES[kind]
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**settings))
    outs, ins = weight.shape
    strategy, bits = settings["strategy"], settings["num_bits"]
    rows, columns = {
        "channel": (outs, 1),
        "tensor": (1, 1),
        "block": (outs // 4, ins // 8),
        "group": (outs, ins // settings.get("group_size", 1)),
    }[strategy]
    blocks = weight.reshape(rows, outs // rows, columns, ins // columns).float()
    largest = 448.0 if settings["type"] == "float" else 2 ** (bits - 1) - 1
    scale = blocks.abs().amax((1, 3)) / largest
    state = {"weight": weight, "weight_scale": scale if strategy != "tensor" else scale.flatten()}
    if not settings.get("symmetric", True):
        low, high = blocks.amin((1, 3)), blocks.amax((1, 3))
        state["weight_scale"] = (high - low) / (2**bits - 1)
        state["weight_zero_point"] = (-8 - low / state["weight_scale"]).round().clamp(-8, 7).to(torch.int8)
    compressor = (
        PackedQuantizationCompressor if "int4" in kind or "packed" in kind else NaiveQuantizationCompressor
    )
    written = compressor.compress(state, scheme)
    return written, compressor.decompress(dict(written), scheme)["weight"]


@pytest.mark.parametrize("kind", SCHEMES)
def test_every_scheme_reads_as_its_library_reads_it(kind: str) -> None:
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(1))
    written, expected = compressed(weight, kind)
    stored = {f"a.{name}": in_memory(tensor) for name, tensor in written.items()}
    plain = dequantized(stored | {"a.input_scale": in_memory(torch.ones(1))}, torch.float32)
    assert plain.keys() == {"a.weight"}
    torch.testing.assert_close(plain["a.weight"].read(None), expected.float(), atol=1e-6, rtol=1e-6)
    assert torch.equal(plain["a.weight"].read(5), plain["a.weight"].read(None)[5])
    assert (expected - weight).abs().max() < 0.5, "the scheme lost the weight"


def released(directory: Path, kind: str) -> dict[str, Tensor]:
    """Rewrites a model's experts of layer 1 one by one and in few bits; returns what they then stand for."""
    tensors = load_file(directory / "model.safetensors")
    meant = dict(tensors)
    stem = "language_model.model.layers.1.feed_forward.experts"
    gate_up, down = tensors.pop(f"{stem}.gate_up_proj"), tensors.pop(f"{stem}.down_proj")
    for expert in range(len(down)):
        gate, up = gate_up[expert].T.chunk(2)
        for name, weight in (("gate", gate), ("up", up), ("down", down[expert].T)):
            written, read = compressed(weight.contiguous(), kind)
            tensors |= {f"{stem}.{expert}.{name}_proj.{key}": value for key, value in written.items()}
            if name == "down":
                meant[f"{stem}.down_proj"][expert] = read.T
            else:
                half = slice(0, len(gate)) if name == "gate" else slice(len(gate), None)
                meant[f"{stem}.gate_up_proj"][expert][:, half] = read.T
    save_file(tensors, directory / "model.safetensors")
    (directory / "SHA256SUMS").unlink()
    return meant


@pytest.mark.parametrize("kind", ["fp8 per output", "int4 groups"])
def test_a_quantised_release_loads(kind: str, tmp_path: Path) -> None:
    save_model(tiny_model("maverick", vision=True), tmp_path, torch.float32, NUM_SPECIAL_TOKENS)
    meant = released(tmp_path, kind)
    loaded = load_model(tmp_path).state_dict()
    for name, tensor in meant.items():
        expected = tensor.bfloat16().float() if "layers.1.feed_forward.experts" in name else tensor
        assert torch.equal(loaded[name], expected), name


def test_a_missing_expert(tmp_path: Path) -> None:
    save_model(tiny_model("maverick"), tmp_path, torch.float32, NUM_SPECIAL_TOKENS)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    stem = "model.layers.1.feed_forward.experts"
    for name in ("gate_up_proj", "down_proj"):
        del tensors[f"{stem}.{name}"]
    tensors |= {
        f"{stem}.{e}.{n}_proj.weight": torch.zeros(2, 2) for e in (0, 2) for n in ("gate", "up", "down")
    }
    save_file(tensors, path)
    with pytest.raises(
        CheckpointError, match=rf"3 of 9 expert weights are missing, first {stem}\.1\.gate_proj"
    ):
        load_model(tmp_path)


def test_what_cannot_be_read() -> None:
    few = in_memory(torch.zeros(4, 8, dtype=torch.float8_e4m3fn), "file: a.weight")
    with pytest.raises(
        CheckpointError, match=r"file: a\.weight is torch\.float8_e4m3fn without a\.weight_scale"
    ):
        dequantized({"a.weight": few})
    with pytest.raises(CheckpointError, match=r"has shape \(3, 1\), which divides no \(4, 8\)"):
        dequantized({"a.weight": few, "a.weight_scale": in_memory(torch.ones(3, 1))})
    words = in_memory(torch.zeros(4, 2, dtype=torch.int32), "file: a.weight_packed")
    with pytest.raises(CheckpointError, match=r"expected int32 \[out, words\] and a\.weight_scale"):
        dequantized({"a.weight_packed": words})
    scale = in_memory(torch.ones(4, 2))
    shape = in_memory(torch.tensor([4, 5]))
    with pytest.raises(CheckpointError, match="neither 4 nor 8 bits"):
        dequantized({"a.weight_packed": words, "a.weight_scale": scale, "a.weight_shape": shape})
    order = {"a.weight_g_idx": in_memory(torch.zeros(8))}
    with pytest.raises(CheckpointError, match="another order"):
        dequantized({"a.weight_packed": words, "a.weight_scale": scale} | order)


def test_neighbours_that_do_not_match() -> None:
    experts = {
        f"x.experts.0.{name}_proj.weight": in_memory(torch.zeros(4, 8)) for name in ("gate", "up", "down")
    }
    experts["x.experts.0.up_proj.weight"] = in_memory(torch.zeros(4, 9), "file: up")
    with pytest.raises(CheckpointError, match=r"file: up is torch\.float32 \(4, 9\)"):
        fused_experts(experts)


def test_a_config_may_speak_of_quantisation(tmp_path: Path) -> None:
    save_model(tiny_model("maverick"), tmp_path, torch.float32, NUM_SPECIAL_TOKENS)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"quantization_config": {"quant_method": "x"}}), encoding="utf-8")
    assert load_model(tmp_path).config == tiny_model("maverick").config
