"""Our Muon against torch's, matrix by matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from camelid.train.muon import Muon, num_maps, orthogonalize

SHAPES = [(4, 24, 40), (4, 40, 24), (2, 3, 24, 24), (16, 40), (40, 24)]


def matrices(tensor: Tensor, maps: int) -> list[Tensor]:
    return [one for stacked in tensor.reshape(-1, *tensor.shape[-2:]) for one in stacked.chunk(maps, dim=-1)]


@pytest.mark.parametrize("maps", [1, 2])
def test_every_matrix_moves_as_under_torch(maps: int) -> None:
    """Measured: equal bit for bit. All in one optimizer, so that matrices of one shape are stacked."""
    ours = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    theirs = [nn.Parameter(one.clone()) for parameter in ours for one in matrices(parameter.detach(), maps)]
    group = {"params": ours, "num_maps": maps}
    muon = Muon([group], lr=1e-2, weight_decay=0.1, dtype=torch.bfloat16)
    torchs = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        grads = [torch.randn_like(parameter) for parameter in ours]
        for parameter, grad in zip(ours, grads, strict=True):
            parameter.grad = grad
        pieces = [one for grad in grads for one in matrices(grad, maps)]
        for single, piece in zip(theirs, pieces, strict=True):
            single.grad = piece.clone()
        muon.step()
        torchs.step()
    moved = [one for parameter in ours for one in matrices(parameter.detach(), maps)]
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
