"""Adapters: they begin as nothing, learn as explicit weights would, and merge away."""

from __future__ import annotations

import pytest
import torch

from camelid.core.errors import ConfigError
from camelid.model import LoraConfig, add_lora, lora_state, merged_state_dict
from camelid.model.lora import LoraExperts, LoraLinear
from camelid.model.moe import Experts
from camelid.ops import dense_experts
from camelid.testing.tiny import tiny_config, tiny_model

TOKEN_IDS = torch.arange(5, 25)


@torch.no_grad()
def test_an_adapted_model_begins_as_its_base() -> None:
    base, adapted = tiny_model().eval(), add_lora(tiny_model().eval(), LoraConfig(rank=4))
    assert torch.equal(base(TOKEN_IDS).hidden, adapted(TOKEN_IDS).hidden)
    merged = merged_state_dict(adapted)
    assert merged.keys() == base.state_dict().keys()
    assert all(torch.equal(value, merged[name]) for name, value in base.state_dict().items())


def test_only_adapters_learn() -> None:
    model = add_lora(tiny_model(vision=True), LoraConfig(rank=4))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == set(lora_state(model)) and learning
    assert not any("vision" in name for name in learning)
    model(TOKEN_IDS).hidden.float().square().sum().backward()
    # a's gradient passes through b, which is zero in the beginning.
    assert all(
        p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.endswith("lora_b")
    )
    assert all(p.grad is None for n, p in model.named_parameters() if n not in learning)


@pytest.mark.parametrize("rank", [3, 8], ids=["padded", "as it is"])
def test_experts_learn_as_dense_ones_with_explicit_weights(rank: int) -> None:
    base = Experts(tiny_config().text)
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    module = LoraExperts(base, LoraConfig(rank=rank, alpha=5.0))
    factors = [tensor for _, a, b in module.factors() for tensor in (a, b)]
    for tensor in factors:
        torch.nn.init.normal_(tensor, std=0.3)
    x = torch.randn(11, base.gate_up_proj.shape[1])
    scores, expert_ids = torch.rand(11, 1), torch.randint(4, (11, 1))
    weight = torch.randn_like(x)

    out = dense_experts(x, scores, expert_ids, *(
        getattr(module, name).detach() + module.scale * a @ b for name, a, b in module.factors()
    ))  # fmt: skip
    expected = torch.autograd.grad((out * weight).sum(), factors)
    sparse = module(x, scores, expert_ids)
    torch.testing.assert_close(sparse, out, atol=2e-5, rtol=1e-5)
    for ours, theirs in zip(torch.autograd.grad((sparse * weight).sum(), factors), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_a_linear_layer_is_its_merged_weight() -> None:
    base = torch.nn.Linear(6, 10, bias=True)
    module = LoraLinear(base, LoraConfig(rank=2, alpha=6.0))
    torch.nn.init.normal_(module.lora_b)
    x = torch.randn(4, 6)
    merged = torch.nn.functional.linear(x, module.weight + module.change("weight"), base.bias)
    torch.testing.assert_close(module(x), merged, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "bad", [{"rank": 0}, {"alpha": 0.0}, {"targets": ("fc1",)}, {"targets": (), "experts": False}]
)
def test_adapters_that_cannot_be(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="LoRA"):
        LoraConfig(**bad)  # type: ignore[arg-type]
