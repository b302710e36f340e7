"""Configurations: to JSON and back, digests, and fields that are not what they should be."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from camelid.core import Config, SamplingParams
from camelid.core.errors import ConfigError
from camelid.model import PRESETS, Llama4Config, preset
from camelid.recipes import RECIPES
from camelid.stages.pretrain import PretrainConfig


@dataclass(frozen=True)
class Engine(Config):
    """A part."""

    power: float
    fuel: Literal["hay", "straw"] = "hay"

    def __post_init__(self) -> None:
        if self.power <= 0:
            raise ConfigError(f"power must be positive, got {self.power}")


@dataclass(frozen=True)
class Cart(Config):
    """A whole."""

    name: str
    engine: Engine
    wheels: tuple[int, ...] = (1, 2)
    load: dict[str, float] = field(default_factory=dict)


CART = Cart("ship of the desert", Engine(0.1), (3, 4, 5), {"dates": 1e-7})


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = preset(name)
    back = Llama4Config.from_json(config.to_json())
    assert back == config
    assert back.digest == config.digest


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_a_file(name: str, tmp_path: Path) -> None:
    config = RECIPES[name]()
    (tmp_path / "config.json").write_text(config.to_json(), encoding="utf-8")
    assert PretrainConfig.load(tmp_path / "config.json") == config


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, math.pi * 1e20, 5e-324])
def test_floats_keep_every_bit(value: float) -> None:
    assert Engine.from_json(Engine(value).to_json()).power == value


def test_what_comes_back_has_the_types_that_went_in() -> None:
    back = Cart.from_dict(json.loads(CART.to_json()))
    assert back == CART
    assert isinstance(back.engine, Engine)
    assert isinstance(back.wheels, tuple)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"whels": [1]}, r"Cart: whels: Unexpected"),
        ({"engine": {"power": 1.0, "feul": "hay"}}, r"engine\.feul: Unexpected"),
        ({"name": None}, r"name: .*string"),
        ({"wheels": [1, "two"]}, r"wheels\.1: .*integer"),
        ({"wheels": [1, 2.5]}, r"wheels\.1: .*integer"),
        ({"load": {"dates": "heavy"}}, r"load\.dates: .*number"),
        ({"engine": {"power": 1.0, "fuel": "oats"}}, r"engine\.fuel: .*'hay' or 'straw'"),
        ({"engine": {"power": -2.0}}, r"engine: .*power must be positive, got -2"),
        ({"engine": 3}, r"engine: "),
    ],
)
def test_wrong_fields_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Cart.from_dict(CART.to_dict() | changes)


def test_all_missing_fields_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"Cart: name: Field required; engine: Field required"):
        Cart.from_dict({})


@pytest.mark.parametrize(
    ("text", "words"), [("{", "not JSON"), ("[1, 2]", "expected a JSON object, got list"), ("", "not JSON")]
)
def test_what_is_no_config_at_all(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        Cart.from_json(text)


def test_the_digest_is_of_values_not_of_their_order() -> None:
    backwards = dict(reversed(CART.to_dict().items()))
    assert Cart.from_dict(backwards).digest == CART.digest
    one, other = (
        CART.replace(load={"dates": 1.0, "figs": 2.0}),
        CART.replace(load={"figs": 2.0, "dates": 1.0}),
    )
    assert one.digest == other.digest != CART.digest
    assert re.fullmatch(r"[0-9a-f]{64}", CART.digest)


def test_fields_stand_in_the_order_of_their_names() -> None:
    """So that moving a field in the source changes no digest."""
    assert list(json.loads(CART.to_json())) == ["engine", "load", "name", "wheels"]


@pytest.mark.parametrize(
    "changes",
    [{"name": "camel"}, {"engine": Engine(0.2)}, {"engine": Engine(0.1, "straw")}, {"wheels": (3, 5, 4)}],
)
def test_other_values_have_another_digest(changes: dict[str, Any]) -> None:
    assert CART.replace(**changes).digest != CART.digest
    assert CART.replace(**changes).replace(**{name: getattr(CART, name) for name in changes}) == CART


def test_a_replaced_field_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="power must be positive, got 0"):
        CART.engine.replace(power=0.0)


@pytest.mark.parametrize("value", ["12", True, 1.5])
def test_nothing_is_bent_into_a_number(value: object) -> None:
    with pytest.raises(ConfigError, match="max_tokens"):
        SamplingParams.from_dict({"max_tokens": value})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json"):
        SamplingParams.load(tmp_path / "none.json")
    (tmp_path / "half.json").write_bytes(b'"\xff')
    with pytest.raises(ConfigError, match=r"half\.json"):
        SamplingParams.load(tmp_path / "half.json")
