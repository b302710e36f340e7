"""Sizes of the herd: published numbers, and formulas against modules that take no memory."""

from __future__ import annotations

import pytest
import torch

from camelid.core.errors import ConfigError
from camelid.model import PRESETS, Llama4, preset
from camelid.model.counting import active_parameters, total_parameters
from camelid.testing.tiny import TinyKind, tiny_config


def counted(name_or_model: Llama4) -> int:
    return sum(parameter.numel() for parameter in name_or_model.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_formula_equals_modules(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = Llama4(config)
    assert total_parameters(config) == counted(model)


@pytest.mark.parametrize("vision", [False, True])
def test_formula_equals_tiny_modules(kind: TinyKind, vision: bool) -> None:
    config = tiny_config(kind, vision=vision)
    model = Llama4(config)
    assert total_parameters(config) == counted(model)
    idle = sum(
        (config.text.num_local_experts - config.text.num_experts_per_tok) * expert[0].numel()
        for name, expert in model.named_parameters()
        if ".experts." in name
    )
    seeing = sum(
        p.numel() for name, p in model.named_parameters() if "vision" in name or "multi_modal" in name
    )
    assert active_parameters(config) == counted(model) - idle - seeing


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("scout", 108_641_793_536, 17_172_894_720),
        ("maverick", 401_583_781_376, 17_184_691_200),
    ],
)
def test_released_sizes(name: str, total: int, active: int) -> None:
    """Totals of transformers' own classes; actives that round to the "17B" of both model cards."""
    assert (total_parameters(preset(name)), active_parameters(preset(name))) == (total, active)


def test_behemoth_agrees_with_what_is_public() -> None:
    """288B active; "nearly two trillion": our shape has 1.99T."""
    assert active_parameters(preset("behemoth")) == pytest.approx(288e9, rel=0.01)
    assert total_parameters(preset("behemoth")) == pytest.approx(1.99e12, rel=0.01)


def test_sizes_that_docstrings_state() -> None:
    for name, millions in (("mini-scout", 229), ("mini-maverick", 427), ("nano-scout", 9.8)):
        assert total_parameters(preset(name)) == pytest.approx(millions * 1e6, rel=0.005)


def test_an_unknown_preset_is_refused_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'llama'; there are: scout, maverick"):
        preset("llama")
