"""Numbers that transfer: nothing at the base's size, flat activations at every other."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from camelid.core import Batch, ModelInput
from camelid.core.errors import ConfigError
from camelid.model import Llama4, Llama4Config, add_lora, init_weights
from camelid.model.config import irope_layer_types
from camelid.model.lora import LoraConfig
from camelid.testing.tiny import tiny_config
from camelid.train.coordinate_check import coordinate_check, growth
from camelid.train.metap import MetaPConfig, Multipliers, init_scales, multipliers, run_multiplier
from camelid.train.optimizer import OptimizerConfig, Optimizers
from train.toy_training import MODEL, toy_batch

Kind = Literal["adamw", "muon"]


def at_width(width: int, layers: int = 2) -> Llama4Config:
    return tiny_config(
        hidden_size=width,
        num_attention_heads=width // 16,
        num_key_value_heads=max(1, width // 32),
        intermediate_size=width,
        intermediate_size_mlp=2 * width,
        layer_types=irope_layer_types(layers, 2),
        moe_layers=tuple(range(layers)),
        rope_scaling=None,
    )


@pytest.fixture
def batches() -> list[Batch]:
    """Ten steps of skewed random text."""
    generator = torch.Generator().manual_seed(0)
    ids = (torch.rand(10, 2, 96, generator=generator) ** 3 * 256).long()
    return [Batch.pack([ModelInput.of_text(row) for row in rows]) for rows in ids]


def test_at_the_base_nothing_changes() -> None:
    """Every multiplier is exactly 1, and updates are the same to the last bit."""
    metap = MetaPConfig(MODEL)
    assert set(multipliers(MODEL, metap).values()) == {Multipliers()}
    assert run_multiplier(metap) == 1
    assert init_scales(MODEL, None) == {}
    kinds: tuple[Kind, ...] = ("adamw", "muon")
    for kind in kinds:
        trained = []
        for config in (None, metap):
            model = init_weights(Llama4(MODEL), 0, init_scales(MODEL, config))
            optimizers = Optimizers(model, OptimizerConfig(kind=kind, metap=config))
            batch = toy_batch(0)
            for _ in range(2):
                out = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
                out.hidden.square().sum().backward()
                optimizers.step(1.0)
            trained.append(model.state_dict())
        for name, tensor in trained[0].items():
            assert torch.equal(tensor, trained[1][name]), name


def test_four_times_as_wide() -> None:
    found = multipliers(at_width(128), MetaPConfig(at_width(32)))
    layer = "language_model.model.layers.1."
    expected = {
        "language_model.model.embed_tokens.weight": (1, 1, 1),
        "language_model.model.norm.weight": (1, 1, 1),
        "language_model.lm_head.weight": (0.5, 0.25, 0.25),
        f"{layer}feed_forward.router.weight": (0.5, 0.25, 0.25),
        f"{layer}self_attn.q_proj.weight": (1, 0.25, 0.5),
        f"{layer}self_attn.o_proj.weight": (1, 0.25, 0.5),
        f"{layer}feed_forward.experts.gate_up_proj": (1, 0.25, 0.5),
        f"{layer}feed_forward.experts.down_proj": (1, 0.25, 0.5),
    }
    for name, numbers in expected.items():
        m = found[name]
        assert (m.init, m.adamw, m.muon) == pytest.approx(numbers), name


def test_only_what_grew_counts() -> None:
    """Wider experts alone: their inputs are the same, the way back has twice as many."""
    base = at_width(32)
    wider = base.replace(text=base.text.replace(intermediate_size=64))
    found = multipliers(wider, MetaPConfig(base))
    changed = {name.partition("feed_forward.")[2] for name, m in found.items() if m != Multipliers()}
    assert changed == {"experts.down_proj", "shared_expert.down_proj.weight"}
    down = found["language_model.model.layers.0.feed_forward.experts.down_proj"]
    assert (down.init, down.adamw) == (1, 0.5)
    # √(out / in) over √max: from √1/√32 to √(1/2)/√64.
    assert down.muon == pytest.approx(0.5)


def test_four_times_as_deep() -> None:
    """What writes into the stream does so a quarter as strongly: in its scale by halves, of which init has one."""
    base, deep = at_width(32), at_width(32, layers=8)
    found = multipliers(deep, MetaPConfig(base))
    for name, (init, rate) in {
        "self_attn.o_proj.weight": (0.5, 0.25),
        "feed_forward.experts.down_proj": (0.5, 0.25),
        "self_attn.q_proj.weight": (1, 1),
        "feed_forward.experts.gate_up_proj": (1, 1),
        "feed_forward.router.weight": (2, 1),
    }.items():
        assert found[f"language_model.model.layers.5.{name}"] == Multipliers(init, rate, rate), name
    scaled = init_weights(Llama4(deep), 0, init_scales(deep, MetaPConfig(base))).state_dict()
    plain = init_weights(Llama4(base), 0).state_dict()
    name = "language_model.model.layers.{}.self_attn.o_proj.weight"
    assert float(scaled[name.format(7)].std()) == pytest.approx(
        float(plain[name.format(1)].std()) / 4, rel=0.1
    )


def test_the_eyes_have_a_width_and_a_depth_of_their_own() -> None:
    base = tiny_config(vision=True)
    assert base.vision is not None
    vision = replace(base.vision, hidden_size=48, num_attention_heads=4, num_hidden_layers=4)
    found = multipliers(base.replace(vision=vision), MetaPConfig(base))
    assert found["language_model.model.layers.0.self_attn.q_proj.weight"] == Multipliers()
    assert found["vision_model.model.layers.3.mlp.fc1.weight"].adamw == 0.5
    assert found["vision_model.model.layers.3.mlp.fc2.weight"].adamw == 0.25
    assert found["vision_model.patch_embedding.linear.weight"].adamw == 1
    assert found["vision_model.class_embedding"].init == pytest.approx(2**0.5)


def test_batch_and_tokens_move_all_rates_and_decay_keeps_its_share() -> None:
    config = MetaPConfig(at_width(32), batch=4.0, tokens=10.0)
    assert run_multiplier(config) == pytest.approx(2 * 10**-0.32)
    model = init_weights(Llama4(at_width(64)), 0)
    optimizers = Optimizers(model, OptimizerConfig(kind="muon", weight_decay=0.1, metap=config))
    optimizers.step(1.0)
    groups = [group for member in optimizers._members for group in member.param_groups]
    decayed = [group["lr"] * group["weight_decay"] for group in groups if group["weight_decay"]]
    assert len(decayed) >= 2
    # A step takes 4 / 10 of what the base's did: a quarter of the steps a token, ten times the tokens.
    assert decayed == pytest.approx([3e-3 * 0.1 * 0.4] * len(decayed))


@pytest.mark.parametrize(
    ("kind", "widths", "lr"), [("adamw", (32, 64, 128), 4e-3), ("muon", (16, 32, 64), 8e-3)]
)
def test_activations_do_not_grow_with_the_width(
    kind: Kind, widths: tuple[int, ...], lr: float, batches: list[Batch]
) -> None:
    """After ten steps, exponents of the width. Measured with it: -0.77 to 0.10, without: 0.13 to 1.0."""
    configs = {width: at_width(width) for width in widths}
    with_it, without = (
        growth(coordinate_check(configs, OptimizerConfig(kind=kind, lr=lr, metap=metap), batches))
        for metap in (MetaPConfig(configs[widths[0]]), None)
    )
    assert max(with_it.values()) < 0.3
    assert sum(with_it.values()) / len(with_it) > -0.4, "nor do they vanish"
    assert sum(without.values()) / len(without) > sum(with_it.values()) / len(with_it) + 0.4


def test_what_cannot_transfer_is_refused() -> None:
    tied = at_width(32)
    tied = tied.replace(text=tied.text.replace(tie_word_embeddings=True))
    with pytest.raises(ConfigError, match="tied embedding"):
        multipliers(tied, MetaPConfig(tied))
    with pytest.raises(ConfigError, match="no vision encoder"):
        multipliers(MODEL, MetaPConfig(MODEL.replace(vision=None)))
    with pytest.raises(ConfigError, match=r"batch 0\.0"):
        MetaPConfig(MODEL, batch=0.0)
    adapted = init_weights(Llama4(MODEL), 0)
    add_lora(adapted, LoraConfig(), 0)
    with pytest.raises(ConfigError, match="metap knows no parameter"):
        Optimizers(adapted, OptimizerConfig(metap=MetaPConfig(MODEL)))
