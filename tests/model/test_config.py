"""Configs that cannot be, and the iRoPE plan."""

from __future__ import annotations

from typing import Any

import pytest

from camelid.core.errors import ConfigError
from camelid.model import PRESETS, Llama4Config, preset
from camelid.model.config import irope_layer_types
from camelid.testing.tiny import VISION, tiny_config


def test_every_fourth_layer_is_global_counted_from_one() -> None:
    plan = irope_layer_types(48)
    assert [layer for layer, kind in enumerate(plan) if kind == "global"] == list(range(3, 48, 4))
    assert plan.count("global") == 12


def test_global_layers_of_maverick_all_have_experts() -> None:
    text = preset("maverick").text
    assert text.moe_layers == tuple(range(1, 48, 2))
    assert {layer for layer, kind in enumerate(text.layer_types) if kind == "global"} <= set(text.moe_layers)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = preset(name)
    assert Llama4Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"head_dim": 15}, "head_dim must be even for RoPE, got 15"),
        ({"layer_types": ()}, "at least one layer"),
        ({"moe_layers": (0, 6)}, r"\(0, 6\) leave the range of 6 layers"),
        ({"moe_layers": (-1,)}, "leave the range"),
        ({"num_experts_per_tok": 5}, "5 experts per token of 4 experts"),
        ({"num_experts_per_tok": 0}, "0 experts per token of 4 experts"),
        ({"intermediate_size": 85}, "intermediate_size 85 must be multiples of 8"),
        ({"attention_chunk_size": 0}, "attention_chunk_size 0"),
        ({"floor_scale": 0}, "floor_scale 0"),
    ],
)
def test_text_configs_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 20}, "image_size 20 does not divide into 2x2 groups of patches of 4"),
        ({"num_attention_heads": 5}, "hidden_size 24 over 5 heads"),
        ({"num_attention_heads": 4}, "multiple of 4"),
    ],
)
def test_vision_configs_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VISION.replace(**change)


def test_a_misspelt_field_is_named() -> None:
    values = tiny_config().to_dict()
    values["text"]["hidden_sise"] = 48
    with pytest.raises(ConfigError, match="hidden_sise"):
        Llama4Config.from_dict(values)
