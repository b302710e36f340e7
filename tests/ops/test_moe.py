"""Sorted, grouped experts against all experts on all tokens, forward and backward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from camelid.ops import dense_experts, routed_experts, swiglu

HIDDEN, FFN = 12, 20
TOLERANCE = 1e-5  # fp32; measured: 1.9e-6 over forward and gradients, of size 10


def random_case(expert_ids: Tensor, num_experts: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, scores, gate_up_proj and down_proj, all with gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).requires_grad_()

    x = draw(expert_ids.shape[0], HIDDEN)
    scores = torch.rand(expert_ids.shape, generator=generator).requires_grad_()
    gate_up = draw(num_experts, HIDDEN, 2 * FFN, scale=HIDDEN**-0.5)
    return x, scores, gate_up, draw(num_experts, FFN, HIDDEN, scale=FFN**-0.5)


def assert_same_as_twin(expert_ids: Tensor, num_experts: int, upstream: Tensor | None = None) -> None:
    x, scores, gate_up, down = leaves = random_case(expert_ids, num_experts)
    fast = routed_experts(x, scores, expert_ids, gate_up, down)
    slow = dense_experts(x, scores, expert_ids, gate_up, down)
    torch.testing.assert_close(fast, slow, atol=TOLERANCE, rtol=0)
    if upstream is None:
        upstream = torch.randn_like(slow)
    ours, twins = (torch.autograd.grad(out, leaves, upstream) for out in (fast, slow))
    for mine, theirs in zip(ours, twins, strict=True):
        torch.testing.assert_close(mine, theirs, atol=TOLERANCE, rtol=0)


@st.composite
def routings(draw: st.DrawFn) -> tuple[Tensor, int]:
    num_experts = draw(st.integers(2, 6))
    top_k = draw(st.integers(1, 2))
    choice = st.lists(st.integers(0, num_experts - 1), min_size=top_k, max_size=top_k, unique=True)
    return torch.tensor(draw(st.lists(choice, min_size=1, max_size=12))), num_experts


@settings(max_examples=25, deadline=None)
@given(routings())
def test_any_routing_equals_the_twin(routing: tuple[Tensor, int]) -> None:
    assert_same_as_twin(*routing)


@pytest.mark.parametrize("top_k", [1, 2])
def test_empty_experts(top_k: int) -> None:
    """Eight experts of which two get all tokens: first, last and middle ones stay empty."""
    expert_ids = torch.tensor([[3, 5], [5, 3], [3, 5], [5, 3]])[:, :top_k]
    assert_same_as_twin(expert_ids, 8)
    x, scores, gate_up, down = random_case(expert_ids, 8)
    routed_experts(x, scores, expert_ids, gate_up, down).square().sum().backward()
    for weight in (gate_up, down):
        assert weight.grad is not None
        used = weight.grad.flatten(1).abs().amax(1) > 0
        assert used.nonzero()[:, 0].tolist() == [3, 5]


@pytest.mark.parametrize("top_k", [1, 2])
def test_expanded_incoming_gradient(top_k: int) -> None:
    """The gradient of y.sum() is one number shown as a matrix of stride 0."""
    expert_ids = torch.stack([torch.arange(7) % 3, torch.arange(1, 8) % 3], 1)[:, :top_k]
    assert_same_as_twin(expert_ids, 3, torch.ones(()).expand(7, HIDDEN))
    x, scores, gate_up, down = random_case(expert_ids, 3)
    routed_experts(x, scores, expert_ids, gate_up, down).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_scores_scale_the_input() -> None:
    """By hand in fp64, where scaling the output would be off by more than 0.05."""
    expert_ids = torch.tensor([[0], [1], [1]])
    x, scores, gate_up, down = random_case(expert_ids, 2)
    out = routed_experts(x, scores, expert_ids, gate_up, down)

    def expert(rows: Tensor, index: int) -> Tensor:
        gate, up = (rows.double() @ gate_up[index].double()).split(FFN)
        return (gate * gate.sigmoid() * up) @ down[index].double()

    for token, (index,) in enumerate(expert_ids.tolist()):
        score = scores[token]
        torch.testing.assert_close(
            out[token].double(), expert(score * x[token], index), atol=1e-6, rtol=0
        )  # measured: 7.6e-8
        assert (out[token] - score * expert(x[token], index)).abs().max() > 0.05


def test_swiglu_gate_first_then_up() -> None:
    expected = torch.tensor([1 / (1 + torch.e**-1) * 3, -2 / (1 + torch.e**2) * 4])
    torch.testing.assert_close(swiglu(torch.tensor([1.0, -2.0, 3.0, 4.0])), expected)


def test_swiglu_gradient() -> None:
    x = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(swiglu, x)
