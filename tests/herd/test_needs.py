"""What a herd will need, before anything is made."""

from __future__ import annotations

import pytest
import torch

from camelid.core.errors import ConfigError
from camelid.herd import HerdConfig, check_room, needs_of
from camelid.model import Llama4, Llama4Config, active_parameters, init_weights, preset, total_parameters
from camelid.recipes.herd import HERD_RECIPES, behemoth
from camelid.testing.tiny import TinyKind, tiny_config
from camelid.train import OptimizerConfig
from camelid.train.memory import activation_bytes, optimizer_bytes
from camelid.train.optimizer import Optimizers


@pytest.mark.parametrize("name", HERD_RECIPES)
def test_recipes_are_configurations_that_survive_json(name: str) -> None:
    config = HERD_RECIPES[name]()
    assert config.name == name
    assert HerdConfig.from_json(config.to_json()) == config


def test_the_numbers_of_the_cluster_are_those_of_the_counts() -> None:
    needs = {one.member: one for one in needs_of(behemoth())}
    assert list(needs) == ["behemoth", "scout", "maverick"]
    for name, one in needs.items():
        assert one.num_parameters == total_parameters(preset(name))
        assert one.num_active == active_parameters(preset(name))
        assert one.weight_bytes == one.gradient_bytes == 4 * one.num_parameters
        assert one.weight_bytes < one.optimizer_bytes < 2 * one.weight_bytes
        assert one.num_tokens == 900_000 * 4096 * 8192
        # Six FLOPs a weight that a token meets, but for the table of embeddings and the norms.
        assert 0.9 < one.flops / (6 * one.num_active * one.num_tokens) < 1.0


def test_ranks_share_the_state_and_not_the_batch() -> None:
    one = needs_of(behemoth())[1]
    state = one.weight_bytes + one.gradient_bytes + one.optimizer_bytes
    assert one.bytes_per_rank(1) == state + one.activation_bytes
    room = one.activation_bytes + state // 64 + 1
    assert one.fitting_ranks(room) == 64
    assert one.fitting_ranks(one.activation_bytes) is None


def test_a_machine_that_is_too_small_is_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"1,992,647,303,680 parameters.*80\.0 GB free"):
        check_room(behemoth(), 80 * 10**9)
    check_room(HERD_RECIPES["smoke"](), 10**9)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_the_state_of_the_optimizer_is_what_it_keeps(kind: str) -> None:
    config = OptimizerConfig(kind="muon" if kind == "muon" else "adamw")
    model = init_weights(Llama4(tiny_config(vision=True)), 0)
    optimizers = Optimizers(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(1.0)
    kept = sum(value.nbytes for value in optimizers.state_tensors().values() if value.ndim)
    assert kept == optimizer_bytes(dict(model.named_parameters()), config)


def saved_bytes(config: Llama4Config, num_tokens: int) -> int:
    """Of all tensors that a forward pass keeps for the backward one, weights aside."""
    model = init_weights(Llama4(config), 0)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(0, 256, (num_tokens,), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(ids, [num_tokens])
    return sum(count for count, _ in kept.values())


@pytest.mark.parametrize("kind", ["scout", "maverick"])
def test_activations_are_what_the_layers_save(kind: TinyKind) -> None:
    wide = {
        "hidden_size": 96,
        "intermediate_size": 64,
        "intermediate_size_mlp": 128,
        "attention_chunk_size": 256,
    }
    config = tiny_config(kind, **wide)
    measured = saved_bytes(config, 512) - saved_bytes(config, 256)
    assert measured == pytest.approx(activation_bytes(config, 256, "fp32"), rel=0.1)
