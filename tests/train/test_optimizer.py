"""Who trains what, who decays, and state that survives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from camelid.core.errors import CheckpointError, ConfigError
from camelid.model import Llama4
from camelid.train.optimizer import OptimizerConfig, Optimizers
from train.toy_training import toy_model

KINDS = ["muon", "adamw"]


def give_gradients(model: Llama4, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model: Llama4) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def names_with(optimizers: Optimizers, state_name: str) -> set[str]:
    return {name.partition("|")[0] for name in optimizers.state_tensors() if name.endswith(f"|{state_name}")}


def test_muon_gets_the_matrices_of_both_towers_and_adamw_the_rest() -> None:
    model = toy_model()
    optimizers = Optimizers(model, OptimizerConfig(kind="muon"))
    give_gradients(model, 0)
    optimizers.step(1.0)
    by_muon, by_adamw = names_with(optimizers, "momentum_buffer"), names_with(optimizers, "exp_avg")
    assert by_muon | by_adamw == set(weights(model))
    assert by_muon & by_adamw == set()
    ends = (
        "proj",
        "proj.weight",
        "fc1.weight",
        "fc2.weight",
        "linear_1.weight",
        "patch_embedding.linear.weight",
    )
    assert {name for name in by_muon if not name.endswith(ends)} == set()
    for part in ("experts.gate_up_proj", "shared_expert.down_proj", "q_proj.weight", "vision_adapter"):
        assert any(part in name for name in by_muon), part
    for part in (
        "embed_tokens",
        "lm_head",
        "router",
        "norm",
        "bias",
        "class_embedding",
        "positional_embedding",
    ):
        assert any(part in name for name in by_adamw), part
        assert not any(part in name for name in by_muon), part


@pytest.mark.parametrize("kind", KINDS)
def test_only_maps_decay(kind: str) -> None:
    model = toy_model()
    before = weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizers(model, OptimizerConfig.from_dict({"kind": kind, "lr": 0.1, "weight_decay": 0.5})).step(1.0)
    for name, after in weights(model).items():
        is_map = after.ndim >= 2 and not any(
            part in name for part in ("embed_tokens", "lm_head", "positional")
        )
        torch.testing.assert_close(after, before[name] * (0.95 if is_map else 1.0))


def test_without_muon_it_is_torchs_adamw() -> None:
    model, twin = toy_model(), toy_model()
    config = OptimizerConfig(kind="adamw", lr=1e-2, weight_decay=0.0)
    optimizers, reference = (
        Optimizers(model, config),
        torch.optim.AdamW(twin.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    )
    give_gradients(model, 0)
    give_gradients(twin, 0)
    assert optimizers.step(0.5) == 5e-3
    reference.step()
    for name, parameter in weights(twin).items():
        assert torch.equal(weights(model)[name], parameter), name


@pytest.mark.parametrize("kind", KINDS)
def test_state_goes_on_bit_for_bit(kind: str) -> None:
    config = OptimizerConfig.from_dict({"kind": kind})
    model = toy_model()
    optimizers = Optimizers(model, config)
    give_gradients(model, 0)
    optimizers.step(1.0)
    copy = toy_model()
    copy.load_state_dict(model.state_dict())
    resumed = Optimizers(copy, config)
    resumed.load_state_tensors({name: tensor.clone() for name, tensor in optimizers.state_tensors().items()})
    for each, member in ((model, optimizers), (copy, resumed)):
        give_gradients(each, 1)
        member.step(0.7)
    for name, parameter in weights(model).items():
        assert torch.equal(weights(copy)[name], parameter), name


def test_state_of_another_model_is_refused_by_name() -> None:
    optimizers = Optimizers(toy_model(), OptimizerConfig())
    with pytest.raises(CheckpointError, match=r"nobody\|exp_avg belongs to no parameter"):
        optimizers.load_state_tensors({"nobody|exp_avg": torch.zeros(2)})
    name = "language_model.model.norm.weight|exp_avg"
    with pytest.raises(CheckpointError, match=r"shape \(7,\), expected \(48,\)"):
        optimizers.load_state_tensors({name: torch.zeros(7)})


@pytest.mark.parametrize(("ours", "theirs"), [("muon", "adamw"), ("adamw", "muon")])
def test_state_of_another_kind_is_refused_by_name(ours: str, theirs: str) -> None:
    model = toy_model()
    other = Optimizers(model, OptimizerConfig.from_dict({"kind": theirs}))
    give_gradients(model, 0)
    other.step(1.0)
    optimizers = Optimizers(toy_model(), OptimizerConfig.from_dict({"kind": ours}))
    with pytest.raises(
        CheckpointError, match=r"is of another optimizer: (Muon|AdamW), which is configured, keeps"
    ):
        optimizers.load_state_tensors(other.state_tensors())


def test_half_of_a_state_is_refused() -> None:
    model = toy_model()
    optimizers = Optimizers(model, OptimizerConfig())
    give_gradients(model, 0)
    optimizers.step(1.0)
    tensors = optimizers.state_tensors()
    del tensors["language_model.model.norm.weight|exp_avg_sq"]
    with pytest.raises(CheckpointError, match=r"norm\.weight lacks exp_avg_sq"):
        Optimizers(toy_model(), OptimizerConfig()).load_state_tensors(tensors)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"max_grad_norm": -1.0}])
def test_rates_are_positive(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        OptimizerConfig(**bad)
