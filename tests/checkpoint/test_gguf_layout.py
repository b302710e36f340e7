"""Small GGUF files written by the `gguf` package, in every precision, and files that are not what they should be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from camelid.checkpoint import is_gguf, load_model, save_dense_model
from camelid.checkpoint.chat_files import chat_files, load_chat_format
from camelid.checkpoint.gguf_layout import read_gguf_config
from camelid.cli.main import main
from camelid.core import Message, SamplingParams
from camelid.core.errors import CheckpointError
from camelid.infer import Generator
from camelid.infer.locate import choose_model
from camelid.inputs import TEXT_FILES
from camelid.inputs.byte_alphabet import byte_of_character
from camelid.model import RopeScaling

LAYERS, HIDDEN, HEADS, KV_HEADS, FFN = 2, 64, 4, 2, 96
TOKENS = ["<|end|>", "<|turn|>", *byte_of_character(), "he", "Ġhe"]
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
METADATA: dict[str, Any] = {
    "llama.block_count": LAYERS,
    "llama.context_length": 128,
    "llama.embedding_length": HIDDEN,
    "llama.feed_forward_length": FFN,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.rope.freq_base": 20_000.0,
    "llama.rope.dimension_count": HIDDEN // HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}
TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant: {% endif %}"
)
TOLERANCE = 2e-5  # measured, on logits up to 4 in fp32: 3e-6 with AVX-512, 1.0e-5 with AVX2

logging.disable_progress_bar()


def hf_model(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(2)
    config = LlamaConfig(
        **{
            "vocab_size": len(TOKENS),
            "hidden_size": HIDDEN,
            "intermediate_size": FFN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": 128,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 20_000.0},
        }
        | changes
    )
    return LlamaForCausalLM(config).eval()


def ggml_tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """ggml's names, and q and k with neighbouring pairs: the rows 0, d/2, 1, d/2 + 1, … of every head."""
    named = {}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        parts = name.removeprefix("model.").removesuffix(".weight").split(".", 2)
        if parts[0] != "layers":
            top = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[parts[0]]
            if top != "output" or not model.config.tie_word_embeddings:
                named[f"{top}.weight"] = array
            continue
        if parts[2] in ("self_attn.q_proj", "self_attn.k_proj"):
            rows = np.arange(len(array)).reshape(-1, 2, HIDDEN // HEADS // 2).transpose(0, 2, 1).ravel()
            array = array[rows]
        named[f"blk.{parts[1]}.{NAMES[parts[2]]}.weight"] = array
    return named


def write_gguf(
    path: Path,
    tensors: dict[str, np.ndarray],
    kind: Type = Type.F32,
    architecture: str = "llama",
    **metadata: Any,
) -> Path:
    """Matrices in `kind`, vectors in fp32, a vocabulary of bytes; a value of None leaves a key out."""
    writer = GGUFWriter(path, architecture)
    tokenizer = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(TOKENS) - 2),
        "tokenizer.ggml.merges": ["h e", "Ġ he"],
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }
    for key, value in (METADATA | tokenizer | metadata).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    for name, array in tensors.items():
        stored = kind if array.ndim == 2 else Type.F32
        writer.add_tensor(name, gguf.quantize(array, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_all(path: Path) -> None:
    """Weights, tokenizer and template."""
    load_chat_format(path, load_model(path).config)


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    return ggml_tensors(hf_model())


@torch.no_grad()
@pytest.mark.parametrize("is_tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(
    "kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1], ids=str
)
def test_logits_are_those_of_transformers(kind: Type, is_tied: bool, tmp_path: Path) -> None:
    source = hf_model(tie_word_embeddings=is_tied)
    path = write_gguf(tmp_path / "tiny.gguf", ggml_tensors(source), kind)
    ours = load_model(path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32).eval()
    token_ids = torch.randint(len(TOKENS), (100,))
    expected = theirs(token_ids[None]).logits[0]
    found = ours.logits(ours(token_ids).hidden)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    if kind == Type.F32:
        torch.testing.assert_close(found, source(token_ids[None]).logits[0], atol=TOLERANCE, rtol=0)
    assert ours.config.text.tie_word_embeddings == is_tied


@torch.no_grad()
def test_llama_3_scaling_is_found_in_its_divisors(tmp_path: Path) -> None:
    """llama.cpp's converter writes one divisor per pair. transformers' reader passes over them, so it is asked for
    the same model under the rule itself."""
    rule = {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    theirs = hf_model(rope_parameters=rule, max_position_embeddings=16_384)
    pairs = HIDDEN // HEADS // 2
    divisors = []
    for pair in range(pairs):
        wavelength = 2 * math.pi * 500_000.0 ** (pair / pairs)
        if wavelength < 8192 / 4:
            divisors.append(1.0)
        elif wavelength > 8192:
            divisors.append(8.0)
        else:
            smooth = (8192 / wavelength - 1) / 3
            divisors.append(1 / ((1 - smooth) / 8 + smooth))
    assert 1 < divisors[4] < 8, "a pair between the two wavelengths"
    factors = {"rope_freqs.weight": np.array(divisors, dtype=np.float32)}
    changes = {"llama.rope.freq_base": 500_000.0, "llama.context_length": 16_384}
    path = write_gguf(tmp_path / "tiny.gguf", ggml_tensors(theirs) | factors, **changes)
    ours = load_model(path)
    assert ours.config.text.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192)
    token_ids = torch.randint(len(TOKENS), (2000,))
    torch.testing.assert_close(
        ours.logits(ours(token_ids).hidden), theirs(token_ids[None]).logits[0], atol=TOLERANCE, rtol=0
    )
    factors["rope_freqs.weight"][0] = 1.5
    with pytest.raises(
        CheckpointError, match=r"rope_freqs\.weight, \(8,\) from 1 to 8, is not Llama 3's rule"
    ):
        load_model(write_gguf(tmp_path / "other.gguf", ggml_tensors(theirs) | factors, **changes))


def test_it_answers_from_the_file_and_from_a_folder(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tensors)
    assert is_gguf(path)
    assert choose_model(path) == path
    model = load_model(path)
    folder = tmp_path / "folder"
    save_dense_model(model, folder, torch.float32, chat_files(path, model.config))
    assert choose_model(folder) == folder
    converted = tmp_path / "converted"
    assert main(["convert", str(path), str(converted)]) == 0
    assert main(["convert", str(converted), str(tmp_path / "again"), "--dtype", "fp32"]) == 0
    for place in (converted, tmp_path / "again"):
        for name in (*TEXT_FILES, "model.safetensors", "config.json"):
            assert (place / name).is_file() == (folder / name).is_file(), name
            assert (
                not (place / name).is_file() or (place / name).read_bytes() == (folder / name).read_bytes()
            ), name
    assert main(["convert", str(path), str(tmp_path / "meta"), "--to", "meta"]) == 2
    assert main(["inspect", str(path)]) == 0
    messages = [Message.of("user", "he is he")]
    answers = [
        Generator.load(place).complete(messages, SamplingParams(max_tokens=12)) for place in (path, folder)
    ]
    assert answers[0] == answers[1]
    assert answers[0].usage.prompt_tokens > 10
    back, report = LlamaForCausalLM.from_pretrained(folder, dtype=None, output_loading_info=True)
    assert not any(report.values()), report
    assert back.config.eos_token_id is None
    assert load_chat_format(folder, model.config).tokenizer.stop_ids == (0,)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file(tensors: dict[str, np.ndarray], share: float, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tensors)
    size = int(share * path.stat().st_size)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=rf"tiny\.gguf: {size:,} bytes that are no whole GGUF file"):
        load_model(path)


def test_garbage(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Random bytes, and a true file whose header was overwritten here and there."""
    path = write_gguf(tmp_path / "tiny.gguf", tensors)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    path.write_bytes(random.bytes(5000))
    with pytest.raises(CheckpointError, match="5,000 bytes that are no whole GGUF file"):
        load_model(path)
    for start in range(4, 1500, 29):
        path.write_bytes(whole[:start] + random.bytes(24) + whole[start + 24 :])
        with pytest.raises(CheckpointError, match=r"tiny\.gguf"):
            read_all(path)
    with pytest.raises(CheckpointError, match="No such file"):
        read_gguf_config(tmp_path / "none.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "qwen2"}, "general.architecture is 'qwen2', expected 'llama'"),
        ({"llama.expert_count": 8}, r"llama\.expert_count is 8, only 0"),
        ({"llama.rope.scaling.type": "yarn"}, r"llama\.rope\.scaling\.type is 'yarn'"),
        ({"llama.rope.dimension_count": 8}, r"llama\.rope\.dimension_count is 8, expected the head's 16"),
        ({"llama.attention.value_length": 32}, r"llama\.attention\.value_length is 32"),
        ({"llama.block_count": None}, r"lacks 'block_count'"),
        ({"llama.block_count": 3}, r"9 tensors are missing, first .*layers\.2"),
        ({"llama.block_count": 1}, r"blk\.1\.\S+: unexpected tensor, as are 8 others"),
        ({"llama.feed_forward_length": 95}, r"blk\.0\.ffn_\w+\.weight has shape .*96.*, expected .*95"),
        ({"llama.attention.head_count_kv": 3}, "num_key_value_heads 3"),
        ({"llama.attention.head_count": 0}, "zero"),
    ],
)
def test_files_that_cannot_be_represented(
    changes: dict[str, Any], message: str, tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(write_gguf(tmp_path / "tiny.gguf", tensors, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.ggml.model": "llama"}, r"tokenizer\.ggml\.model is 'llama', only byte-level"),
        (
            {"tokenizer.ggml.pre": "qwen2"},
            r"tokenizer\.ggml\.pre is 'qwen2', known are gpt-2, llama-bpe, smollm",
        ),
        ({"tokenizer.ggml.tokens": None}, r"lacks 'tokenizer\.ggml\.tokens'"),
        ({"tokenizer.ggml.merges": ["he"]}, "a merge that is not of two tokens"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "260 tokens, 260 different, with 2 types"),
        ({"tokenizer.ggml.bos_token_id": 999}, "contradicts itself"),
    ],
)
def test_tokenizers_that_cannot_be_represented(
    changes: dict[str, Any], message: str, tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tensors, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_chat_format(path, read_gguf_config(path))


def test_biases_are_not_passed_over(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tensors | {"blk.0.attn_q.bias": np.ones(64, dtype=np.float32)})
    with pytest.raises(CheckpointError, match=r"tiny\.gguf: blk\.0\.attn_q\.bias: unexpected tensor"):
        load_model(path)
