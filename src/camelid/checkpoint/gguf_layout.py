"""GGUF files of architecture `llama`, as llama.cpp writes them: one file with config, weights and tokenizer.

ggml turns neighbouring features, as we do, so q and k are taken as they lie. Quantised tensors are dequantised one by
one by the `gguf` package (the extra `gguf`).
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor, dequantize
from torch import Tensor

from camelid.checkpoint.dense_layout import dense_config
from camelid.checkpoint.gguf_tokenizer import gguf_text_files
from camelid.checkpoint.lazy_tensor import LazyTensor
from camelid.checkpoint.stored_model import StoredModel
from camelid.core.errors import CheckpointError, ConfigError
from camelid.model import Llama4Config, RopeScaling
from camelid.ops.rope import rope_frequencies

__all__ = ["open_gguf", "read_gguf_config", "read_gguf_text_files"]

ROPE_FACTORS = "rope_freqs.weight"
PLAIN = {GGMLQuantizationType.F16: torch.float16, GGMLQuantizationType.BF16: torch.bfloat16}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "feed_forward.gate_proj",
    "ffn_up": "feed_forward.up_proj",
    "ffn_down": "feed_forward.down_proj",
}
LAYER_NAME = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
# Keys after `llama.` that change what is computed; only files without them, or with this value, are read.
FIXED: dict[str, Any] = {
    "expert_count": 0,
    "rope.scaling.type": "none",
    "attention.sliding_window": 0,
    "attention.scale": 0.0,
    "logit_scale": 0.0,
    "residual_scale": 0.0,
    "embedding_scale": 0.0,
}


def open_gguf(path: Path) -> StoredModel:
    """Reads the header. Tensors are dequantised when they are read, to fp32 if they are not stored in 16 bits.

    CheckpointError says what is wrong with the file: cut short, another architecture, what cannot be represented.
    """
    reader = _open(path)
    tensors = {
        _our_name(stored.name): LazyTensor(
            tuple(int(size) for size in reversed(stored.shape)),
            PLAIN.get(stored.tensor_type, torch.float32),
            partial(_values, path, stored),
            f"{path}: {stored.name}",
        )
        for stored in reader.tensors
        if stored.name != ROPE_FACTORS
    }
    return StoredModel(_config(reader, path), tensors, origin=f"{path}, GGUF")


def read_gguf_config(path: Path) -> Llama4Config:
    """The config alone."""
    return _config(_open(path), path)


def read_gguf_text_files(path: Path) -> dict[str, str]:
    """Tokenizer, chat template and end tokens as the JSON files that Hugging Face keeps beside weights."""
    return gguf_text_files(_metadata(_open(path), path), str(path))


def _open(path: Path) -> GGUFReader:
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    return _reader(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)  # the package reads vocabularies slowly, and a model is asked for more than once
def _reader(path: Path, size: int, modified_ns: int) -> GGUFReader:
    try:
        return GGUFReader(path)
    except Exception as error:  # the reader trusts its file and fails in any way on one that lies
        raise CheckpointError(
            f"{path}: {size:,} bytes that are no whole GGUF file: {type(error).__name__}: {error}"
        ) from error


def _metadata(reader: GGUFReader, path: Path) -> dict[str, Any]:
    try:
        return {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, LookupError) as error:
        raise CheckpointError(f"{path}: unreadable metadata: {error}") from error


def _config(reader: GGUFReader, path: Path) -> Llama4Config:
    values = _metadata(reader, path)
    if (kind := values.get("general.architecture")) != "llama":
        raise CheckpointError(f"{path}: general.architecture is {kind!r}, expected 'llama'")
    llama = {
        name.removeprefix("llama."): value for name, value in values.items() if name.startswith("llama.")
    }
    for name, expected in FIXED.items():
        if (found := llama.get(name, expected)) != expected:
            raise CheckpointError(f"{path}: llama.{name} is {found!r}, only {expected!r} can be represented")
    shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    try:
        hidden, heads = llama["embedding_length"], llama["attention.head_count"]
        head_dim = llama.get("attention.key_length", hidden // heads)
        for name in ("attention.value_length", "rope.dimension_count"):
            if (found := llama.get(name, head_dim)) != head_dim:
                raise CheckpointError(f"{path}: llama.{name} is {found}, expected the head's {head_dim}")
        theta = _shortest(llama.get("rope.freq_base", 10_000.0))
        return dense_config(
            vocab_size=shapes["token_embd.weight"][-1],
            hidden_size=hidden,
            num_attention_heads=heads,
            num_key_value_heads=llama.get("attention.head_count_kv", heads),
            head_dim=head_dim,
            intermediate_size=llama["feed_forward_length"],
            num_hidden_layers=llama["block_count"],
            rope_theta=theta,
            rope_scaling=_rope_scaling(reader, head_dim, theta, path),
            rms_norm_eps=_shortest(llama["attention.layer_norm_rms_epsilon"]),
            max_position_embeddings=llama["context_length"],
            tie_word_embeddings="output.weight" not in shapes,
        )
    except KeyError as error:
        raise CheckpointError(f"{path} lacks {error}") from error
    except (ConfigError, TypeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _rope_scaling(reader: GGUFReader, head_dim: int, theta: float, path: Path) -> dict[str, Any] | None:
    """Llama 3's scaling rule, out of the factors that llama.cpp's converter made of it.

    The file has one divisor per pair instead of the rule's four numbers. All of Meta's models share three of them;
    the fourth is the largest divisor. CheckpointError where that does not give the divisors of the file.
    """
    stored = next((tensor for tensor in reader.tensors if tensor.name == ROPE_FACTORS), None)
    if stored is None:
        return None
    found = _values(path, stored, None).float()
    scaling = RopeScaling(
        factor=float(found.max()),
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    slowed = rope_frequencies(head_dim, theta, scaling.factor, 1.0, 4.0, 8192)
    expected = rope_frequencies(head_dim, theta) / slowed
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-4):
        raise CheckpointError(
            f"{path}: {ROPE_FACTORS}, {tuple(found.shape)} from {found.min():.4g} to {found.max():.4g}, is not "
            f"Llama 3's rule of {tuple(expected.shape)} divisors"
        )
    return scaling.to_dict()


def _our_name(stored: str) -> str:
    """Ours for a tensor of the file; its own name where we have none."""
    if match := LAYER_NAME.fullmatch(stored):
        module = IN_LAYER.get(match[2])
        return f"language_model.model.layers.{match[1]}.{module}.weight" if module else stored
    module = TOP.get(stored.removesuffix(".weight"))
    return f"language_model.{module}.weight" if module else stored


def _values(path: Path, stored: ReaderTensor, row: int | None) -> Tensor:
    """Plain numbers; one row costs no more than itself."""
    data = stored.data if row is None else stored.data[row : row + 1]
    try:
        whole = torch.from_numpy(dequantize(data, stored.tensor_type).copy())
        whole = whole.to(PLAIN.get(stored.tensor_type, torch.float32))
        return whole if row is None else whole[0]
    except NotImplementedError as error:
        raise CheckpointError(
            f"{path}: {stored.name} is {stored.tensor_type.name}, which the gguf package cannot dequantise"
        ) from error


def _shortest(value: float) -> float:
    """A short decimal if it is the same fp32: 1e-05 instead of 9.999999747378752e-06."""
    short = float(f"{value:.7g}")
    return short if torch.tensor(short) == torch.tensor(value) else value
