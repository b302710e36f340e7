"""Dense Llamas of transformers against ours: logits, bits in both directions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from camelid.checkpoint import is_model_dir, load_config, load_model, save_dense_model, save_model
from camelid.checkpoint.dense_layout import dense_config_from_hf, dense_config_to_hf
from camelid.core.errors import CheckpointError, InputError
from camelid.model import KVCache, Llama4, total_parameters
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_model

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
KINDS: dict[str, dict[str, Any]] = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "llama3 rope": {"rope_parameters": LLAMA3_ROPE},
    "heads wider than their share": {"head_dim": 24},
    "one key for all": {"num_key_value_heads": 1, "tie_word_embeddings": True},
}
TOLERANCE = 1e-5  # measured: 5.4e-6 on logits up to 4, fp32; against fp64 both are 4e-6 off

logging.disable_progress_bar()


def hf_model(**changes: Any) -> LlamaForCausalLM:
    """A random dense Llama with random norms: 3 layers, 4 heads on 2 keys."""
    torch.manual_seed(1)
    config = LlamaConfig(
        **{
            "vocab_size": 120,
            "hidden_size": 64,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.1,
        }
        | changes
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.2)
    return model


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    chosen: dict[str, Any] = KINDS[request.param]
    return chosen


@torch.no_grad()
def logits(model: Llama4, token_ids: torch.Tensor) -> torch.Tensor:
    return model.logits(model(token_ids).hidden)


@torch.no_grad()
def test_logits_are_those_of_transformers(kind: dict[str, Any], tmp_path: Path) -> None:
    theirs = hf_model(**kind)
    theirs.save_pretrained(tmp_path)
    assert is_model_dir(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config.text.is_dense_ancestor
    assert total_parameters(ours.config) == sum(p.numel() for p in ours.parameters())
    token_ids = torch.randint(120, (200,))
    expected = theirs(token_ids[None]).logits[0]
    assert expected.abs().max() > 2
    torch.testing.assert_close(logits(ours, token_ids), expected, atol=TOLERANCE, rtol=0)


def test_bits_survive_both_ways(kind: dict[str, Any], tmp_path: Path) -> None:
    """Its folder, ours, its folder again; and our export has the very same tensors."""
    theirs = hf_model(**kind).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs")
    save_dense_model(load_model(tmp_path / "theirs", torch.bfloat16), tmp_path / "ours", torch.bfloat16)
    before = load_file(tmp_path / "theirs" / "model.safetensors")
    after = load_file(tmp_path / "ours" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(
        torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before
    )

    back, report = LlamaForCausalLM.from_pretrained(tmp_path / "ours", dtype=None, output_loading_info=True)
    assert not any(report.values()), report
    assert back.dtype == torch.bfloat16
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name
    for name in ("rope_parameters", "head_dim", "tie_word_embeddings", "num_key_value_heads", "rms_norm_eps"):
        assert getattr(back.config, name) == getattr(theirs.config, name), name


def test_our_own_layout_carries_a_dense_member_too(tmp_path: Path) -> None:
    """As every checkpoint of a training run does."""
    hf_model(tie_word_embeddings=True).save_pretrained(tmp_path / "theirs")
    dense = load_model(tmp_path / "theirs")
    save_model(dense, tmp_path / "llama4", torch.float32, NUM_SPECIAL_TOKENS - 40)
    back = load_model(tmp_path / "llama4")
    assert back.config == dense.config
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), dense.parameters(), strict=True))


def test_shards_are_read(tmp_path: Path) -> None:
    theirs = hf_model()
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="80KB")
    theirs.save_pretrained(tmp_path / "whole")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = load_model(tmp_path / "whole").state_dict(), load_model(tmp_path / "shards").state_dict()
    assert all(torch.equal(whole[name], shards[name]) for name in whole)


def test_old_files_carry_frequencies_and_a_tied_head(tmp_path: Path) -> None:
    hf_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    plain = load_model(tmp_path).state_dict()
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path).state_dict()
    assert loaded.keys() == plain.keys()
    assert all(torch.equal(plain[name], loaded[name]) for name in plain)


@torch.no_grad()
def test_decoding_step_by_step(tmp_path: Path) -> None:
    """The cache starts small and grows with the text, up to the context and no further."""
    hf_model().save_pretrained(tmp_path)
    model = load_model(tmp_path)
    token_ids = torch.randint(120, (256,))
    cache = KVCache(model.config.text)
    pieces, held = [], []
    for piece in token_ids.split([1, 1, 60, 1, 100, 90, 3]):
        pieces.append(model(piece, cache=cache).hidden)
        held.append(cache.num_bytes)
    torch.testing.assert_close(torch.cat(pieces), model(token_ids).hidden, atol=TOLERANCE, rtol=0)
    per_position = 3 * 2 * 2 * 16 * 4  # layers, keys and values, heads, features, bytes
    assert held[0] == held[2] == 64 * per_position
    assert held[-1] == 256 * per_position
    with pytest.raises(InputError, match="257 positions, but this model's layers see a context of 256"):
        model(token_ids[:1], cache=cache)
    with pytest.raises(InputError, match="300 positions"):
        model(torch.zeros(300, dtype=torch.long))


VALUES = LlamaConfig(num_hidden_layers=2, num_key_value_heads=8).to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "model_type is 'mistral'"),
        ({"attention_bias": True}, "attention_bias is True, only False"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"sliding_window": 4096}, "sliding_window is 4096"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, "rope_type is 'yarn'"),
        (
            {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_type is 'linear'",
        ),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "lacks the field 'low_freq_factor'"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types has 'sliding_attention'"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"num_key_value_heads": 5}, "num_key_value_heads 5"),
        ({"num_attention_heads": 0, "head_dim": None}, "zero"),
        ({"hidden_size": "wide"}, r"config\.json"),
    ],
)
def test_configs_that_cannot_be_represented(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        dense_config_from_hf(VALUES | changes)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"])
def test_what_lacks_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"lacks the field '{name}'"):
        dense_config_from_hf({key: value for key, value in VALUES.items() if key != name})


def test_first_configs_say_little() -> None:
    """Llama 1's had neither key heads nor a theta."""
    kept = (
        "model_type",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    text = dense_config_from_hf({name: VALUES[name] for name in kept}).text
    assert (text.num_key_value_heads, text.head_dim, text.rope_theta) == (32, 128, 10_000.0)
    assert (text.max_position_embeddings, text.attention_chunk_size, text.rms_norm_eps) == (2048, 2048, 1e-6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_model("scout"), r"experts in layers \(0, 1, 2, 3, 4, 5\); QK norm; layers without RoPE"),
        (
            tiny_model("scout", vision=True, moe_layers=(), use_qk_norm=False),
            "a vision encoder; layers without RoPE",
        ),
        (
            tiny_model("scout", moe_layers=(), use_qk_norm=False, layer_types=("chunked",) * 2),
            "chunks of 16 in a context of 262,144",
        ),
    ],
)
def test_only_dense_members_are_exported(model: Llama4, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        save_dense_model(model, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_wrong_tensors_are_named(tmp_path: Path) -> None:
    hf_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"model.layers.0.mlp.up_proj.weight": torch.ones(88, 63)}, path)
    with pytest.raises(
        CheckpointError, match=r"mlp\.up_proj\.weight has shape \(88, 63\), expected \(88, 64\)"
    ):
        load_model(tmp_path)
    save_file(tensors | {"model.layers.0.self_attn.q_proj.bias": torch.ones(64)}, path)
    with pytest.raises(
        CheckpointError, match=r"model\.layers\.0\.self_attn\.q_proj\.bias: unexpected tensor"
    ):
        load_model(tmp_path)
    del tensors["lm_head.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"1 tensors are missing, first .*lm_head"):
        load_model(tmp_path)


def test_a_config_goes_round() -> None:
    values = VALUES | {"rope_parameters": LLAMA3_ROPE, "head_dim": 64}
    config = dense_config_from_hf(values)
    assert dense_config_from_hf(json.loads(json.dumps(dense_config_to_hf(config)))) == config


def test_another_family_is_still_named(tmp_path: Path) -> None:
    hf_model().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(values | {"model_type": "qwen2"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="model_type is 'qwen2', which is no Llama"):
        load_config(tmp_path)
