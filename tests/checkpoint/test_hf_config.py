"""config.json in both directions: ours, transformers' own, and the ones that were released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig
from transformers import Llama4Config as TheirConfig

from camelid.checkpoint import load_config, model_files
from camelid.checkpoint.hf_config import config_from_hf, config_to_hf
from camelid.core.errors import CheckpointError
from camelid.model import PRESETS, Llama4Config, RopeScaling, preset
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, TinyKind, tiny_config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive(name: str) -> None:
    config = preset(name)
    max_tiles = config.vision.max_tiles if config.vision else 16
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config))), max_tiles) == config


@pytest.mark.parametrize("vision", [True, False], ids=["seeing", "text only"])
def test_configs_that_transformers_writes(kind: TinyKind, vision: bool, tmp_path: Path) -> None:
    """It moves rope_theta and rope_scaling elsewhere and adds defaults of its own."""
    config = tiny_config(kind, vision=vision)
    for name, text in model_files(config, NUM_SPECIAL_TOKENS).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_config(tmp_path) == config
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert "rope_parameters" in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert load_config(tmp_path) == config


def test_transformers_reads_what_we_mean() -> None:
    """Field by field where the two differ in form."""
    config = tiny_config("dense", vision=True)
    theirs = TheirConfig.from_dict(config_to_hf(config, NUM_SPECIAL_TOKENS))
    text = theirs.text_config
    assert text.layer_types == [
        f"{'full' if k == 'global' else k}_attention" for k in config.text.layer_types
    ]
    assert text.no_rope_layers == [1, 0, 1, 1, 0]
    assert text.moe_layers == [0, 3]
    assert (text.bos_token_id, text.eos_token_id, text.pad_token_id) == (256, [257, 263, 264], 274)
    assert theirs.image_token_index == 256 + 92
    scaled = TheirConfig.from_dict(config_to_hf(preset("scout"))).text_config.rope_parameters
    assert (scaled["rope_type"], scaled["factor"], scaled["rope_theta"]) == ("llama3", 16.0, 500_000.0)


# Fields as the two repositories published them (transformers 4.51), without those that nobody reads.
VISION: dict[str, Any] = {
    "hidden_size": 1408,
    "image_size": 336,
    "intermediate_size": 5632,
    "model_type": "llama4_vision_model",
    "norm_eps": 1e-05,
    "num_attention_heads": 16,
    "num_hidden_layers": 34,
    "patch_size": 14,
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
    "rope_theta": 10000,
    "vision_output_dim": 4096,
}
TEXT: dict[str, Any] = {
    "attention_chunk_size": 8192,
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16384,
    "model_type": "llama4_text",
    "num_attention_heads": 40,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "vocab_size": 202048,
}
SCOUT = TEXT | {
    "attn_scale": 0.1,
    "attn_temperature_tuning": 4,
    "floor_scale": 8192,
    "interleave_moe_layer_step": 1,
    "max_position_embeddings": 10485760,
    "moe_layers": list(range(48)),
    "no_rope_layers": [1, 1, 1, 0] * 12,
    "num_local_experts": 16,
    "rope_scaling": {
        "factor": 16.0,
        "high_freq_factor": 1.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "use_qk_norm": True,
}
# Says nothing of the temperature and lists no layers.
MAVERICK = TEXT | {
    "interleave_moe_layer_step": 2,
    "max_position_embeddings": 1048576,
    "no_rope_layer_interval": 4,
    "no_rope_layers": [],
    "num_local_experts": 128,
    "rope_scaling": None,
    "use_qk_norm": False,
}


def released(text: dict[str, Any]) -> dict[str, Any]:
    return {"model_type": "llama4", "text_config": text, "vision_config": VISION}


@pytest.mark.parametrize(("name", "text"), [("scout", SCOUT), ("maverick", MAVERICK)])
def test_released_configs_are_the_presets(name: str, text: dict[str, Any]) -> None:
    config = config_from_hf(released(text))
    assert config == preset(name)
    assert Llama4Config.from_json(config.to_json()) == config, "a mistyped field, such as 4 for true"


def test_first_week_rope_scaling() -> None:
    early = SCOUT["rope_scaling"] | {"factor": 8.0, "high_freq_factor": 4.0}
    scaling = config_from_hf(released(SCOUT | {"rope_scaling": early})).text.rope_scaling
    assert scaling == RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)


def test_the_interval_of_global_layers_is_read() -> None:
    config = config_from_hf(released(MAVERICK | {"num_hidden_layers": 6, "no_rope_layer_interval": 3}))
    assert config.text.layer_types == ("chunked", "chunked", "global") * 2


@pytest.mark.parametrize("name", ["hidden_size", "vocab_size", "num_local_experts", "num_hidden_layers"])
def test_what_lacks_is_named(name: str) -> None:
    text = {key: value for key, value in SCOUT.items() if key != name}
    with pytest.raises(CheckpointError, match=rf"config\.json lacks the field '{name}'"):
        config_from_hf(released(text))
