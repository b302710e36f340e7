"""Routing: what is chosen, what is scaled, what learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from camelid.model.moe import MoE, Router
from camelid.testing.tiny import tiny_config


def random_moe(top_k: int, num_experts: int = 4) -> MoE:
    moe = MoE(tiny_config(num_experts_per_tok=top_k, num_local_experts=num_experts).text)
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return moe


@pytest.mark.parametrize("top_k", [1, 2])
@torch.no_grad()
def test_formula(top_k: int) -> None:
    """y = sum over chosen e of Expert_e(sigmoid(r_e) x) + Shared(x), in fp64 and token by token."""
    moe = random_moe(top_k)
    x = torch.randn(9, 48)
    out, routing = moe(x)

    def swiglu(gate: Tensor, up: Tensor) -> Tensor:
        return gate * gate.sigmoid() * up

    moe = moe.double()
    shared = moe.shared_expert
    for token, row in enumerate(x.double()):
        logits = moe.router.weight @ row
        chosen = logits.argsort(descending=True)[:top_k]
        assert routing.expert_ids[token].tolist() == chosen.tolist()
        torch.testing.assert_close(routing.logits[token].double(), logits, atol=1e-5, rtol=0)
        expected = shared.down_proj(swiglu(shared.gate_proj(row), shared.up_proj(row)))
        for expert in chosen.tolist():
            gate, up = (logits[expert].sigmoid() * row @ moe.experts.gate_up_proj[expert]).chunk(2)
            expected += swiglu(gate, up) @ moe.experts.down_proj[expert]
        torch.testing.assert_close(out[token].double(), expected, atol=1e-5, rtol=0)  # measured: 9.8e-7


def router_of(logits: list[float], top_k: int = 1) -> tuple[Router, Tensor]:
    """A router and an input on which it says these logits."""
    router = Router(tiny_config(num_local_experts=len(logits), num_experts_per_tok=top_k).text)
    x = F.one_hot(torch.tensor([0]), 48).float()
    with torch.no_grad():
        router.weight.zero_()
        router.weight[:, 0] = torch.tensor(logits)
    return router, x


def test_a_tie_goes_to_the_first_and_to_one() -> None:
    router, x = router_of([0.5, 2.0, 2.0, 2.0])
    scores, expert_ids, _ = router(x)
    assert expert_ids.tolist() == [[1]]
    assert scores.item() == pytest.approx(torch.tensor(2.0).sigmoid().item())


def test_two_tied_experts_are_two_experts() -> None:
    router, x = router_of([1.0, 1.0, 1.0, 1.0], top_k=2)
    _, expert_ids, _ = router(x)
    assert len(set(expert_ids[0].tolist())) == 2


def test_a_tie_of_all_experts_still_trains() -> None:
    moe = random_moe(1)
    with torch.no_grad():
        moe.router.weight.zero_()
    out, routing = moe(torch.randn(6, 48))
    assert routing.expert_ids.unique().tolist() == [0]
    out.square().sum().backward()
    assert moe.router.weight.grad is not None
    assert moe.router.weight.grad[0].abs().sum() > 0 and not moe.router.weight.grad[1:].any()


def test_selection_bias_moves_the_choice_never_the_weight() -> None:
    router, x = router_of([1.0, 0.9, -3.0])
    router.selection_bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
    scores, expert_ids, logits = router(x)
    assert expert_ids.tolist() == [[1]]
    assert scores.item() == pytest.approx(torch.tensor(0.9).sigmoid().item())
    assert logits[0].tolist() == pytest.approx([1.0, 0.9, -3.0])
    assert "selection_bias" not in router.state_dict()


def test_bf16_routers_decide_in_fp32() -> None:
    """Two logits that bf16 rounds to the same number: 1 + 2^-8 and 1."""
    router, x = router_of([1.0, 1.0])
    router.to(torch.bfloat16)
    with torch.no_grad():
        router.weight[1, 1] = 2.0**-8
    x[0, 1] = 1.0
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            scores, expert_ids, logits = router(x.to(torch.bfloat16))
        assert expert_ids.tolist() == [[1]]
        assert logits.dtype == torch.float32
        assert scores.dtype == torch.bfloat16


def test_only_the_chosen_learn() -> None:
    """Every expert that saw a token has a gradient, every other exactly none; the router learns through g x."""
    moe = random_moe(1, num_experts=8)
    out, routing = moe(torch.randn(3, 48))
    out.sum().backward()
    used = routing.expert_ids.unique().tolist()
    for weight in (moe.experts.gate_up_proj, moe.experts.down_proj, moe.router.weight):
        assert weight.grad is not None
        assert weight.grad.flatten(1).abs().amax(1).nonzero()[:, 0].tolist() == used


def test_autocast_runs_experts_in_bf16_and_stays_close() -> None:
    moe = random_moe(2)
    x = torch.randn(40, 48)
    exact, _ = moe(x)
    with torch.autocast("cpu", torch.bfloat16):
        out, routing = moe(x)
    assert out.dtype == torch.bfloat16 and routing.logits.dtype == torch.float32
    assert (out - exact).abs().max() < 0.06  # measured: 0.02 on values of size 3
    out.float().sum().backward()
    assert moe.experts.down_proj.grad is not None and moe.experts.down_proj.grad.dtype == torch.float32
