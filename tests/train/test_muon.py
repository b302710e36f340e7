"""Our Muon against torch's, matrix by matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from camelid.train.muon import Muon, num_maps, orthogonalize

SHAPES = [(4, 24, 40), (4, 40, 24), (2, 3, 24, 24), (16, 40), (40, 24)]


def slices(tensor: Tensor) -> list[Tensor]:
    return list(tensor.reshape(-1, *tensor.shape[-2:]).unbind())


def test_every_slice_moves_as_under_torch() -> None:
    """Measured: equal bit for bit. All in one optimizer, so that matrices of one shape are stacked."""
    ours = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    theirs = [nn.Parameter(piece.clone()) for parameter in ours for piece in slices(parameter.detach())]
    muon = Muon(ours, lr=1e-2, weight_decay=0.1, dtype=torch.bfloat16)
    torchs = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for parameter in ours:
            parameter.grad = torch.randn_like(parameter)
        grads = [
            piece for parameter in ours if parameter.grad is not None for piece in slices(parameter.grad)
        ]
        for single, grad in zip(theirs, grads, strict=True):
            single.grad = grad.clone()
        muon.step()
        torchs.step()
    moved = [piece for parameter in ours for piece in slices(parameter.detach())]
    for piece, single in zip(moved, theirs, strict=True):
        torch.testing.assert_close(piece, single.detach(), atol=1e-6, rtol=0)


def test_an_experts_two_maps_move_as_two_under_torch() -> None:
    gate_up = nn.Parameter(torch.randn(4, 24, 32))
    theirs = [
        nn.Parameter(one.clone()) for piece in slices(gate_up.detach()) for one in piece.chunk(2, dim=-1)
    ]
    muon = Muon([{"params": [gate_up], "num_maps": 2}], lr=1e-2, weight_decay=0.1, dtype=torch.bfloat16)
    torchs = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gate_up.grad = torch.randn_like(gate_up)
        halves = [one for piece in slices(gate_up.grad) for one in piece.chunk(2, dim=-1)]
        for single, grad in zip(theirs, halves, strict=True):
            single.grad = grad.clone()
        muon.step()
        torchs.step()
    moved = [one for piece in slices(gate_up.detach()) for one in piece.chunk(2, dim=-1)]
    for piece, single in zip(moved, theirs, strict=True):
        torch.testing.assert_close(piece, single.detach(), atol=1e-6, rtol=0)


def test_gate_and_up_projections_are_two_maps() -> None:
    names = ("experts.gate_up_proj", "experts.down_proj", "q_proj.weight")
    assert [num_maps(name) for name in names] == [2, 1, 1]


def test_singular_values_go_to_about_one_and_vectors_stay() -> None:
    matrix = torch.randn(1, 20, 32)
    left, _, right = torch.linalg.svd(matrix[0], full_matrices=False)
    in_its_own_basis = left.mT @ orthogonalize(matrix)[0] @ right.mT
    assert ((in_its_own_basis.diagonal() > 0.6) & (in_its_own_basis.diagonal() < 1.3)).all()
    assert (in_its_own_basis - torch.diag(in_its_own_basis.diagonal())).abs().max() < 0.05


def test_no_gradient_no_move() -> None:
    still, moving = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 3))
    moving.grad = torch.randn(2, 3)
    Muon([still, moving]).step()
    assert torch.equal(still, torch.ones(2, 3))
    assert not torch.equal(moving, torch.ones(2, 3))


def test_a_zero_gradient_only_decays() -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    parameter.grad = torch.zeros(2, 3)
    Muon([parameter], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(parameter.detach(), torch.full((2, 3), 0.95))


def test_vectors_are_refused() -> None:
    with pytest.raises(AssertionError, match="matrices"):
        Muon([nn.Parameter(torch.ones(3))])
