"""Muon for stacks of matrices: momentum, then the nearest orthogonal matrix (Keller Jordan, 2024).

torch.optim.Muon takes single matrices only. Here the experts of a layer are a stack, and matrices of one shape
are orthogonalised together: on a CPU a few batched products beat many small ones. An expert's gate and up
projections lie in one tensor and are two maps: each is orthogonalised alone, which costs less, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from camelid.train.precision import autocast_dtype

__all__ = ["Muon", "num_maps", "orthogonalize"]

QUINTIC = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


def orthogonalize(
    matrices: Float[Tensor, "count rows columns"], steps: int = 5, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "count rows columns"]:
    """Newton-Schulz iteration: singular values go to about 1 (0.7 to 1.2), singular vectors stay."""
    a, b, c = QUINTIC
    x = matrices.to(dtype)
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)


def num_maps(name: str) -> int:
    """How many maps, of equally many columns, a parameter holds side by side."""
    return 2 if name.endswith("gate_up_proj") else 1


class Muon(torch.optim.Optimizer):
    """Parameters [..., rows, columns]; leading dims count matrices, and a group's `num_maps` divides the columns.

    Updates are scaled by 0.2 sqrt(max(rows, columns)), so that they are as large as AdamW's and share its
    learning rate (Moonlight, 2502.16982). Weight decay is decoupled. Slice by slice equal to torch.optim.Muon,
    whose iteration is in bf16; here `dtype` says, and without it fp32 takes over where a processor emulates bf16.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "num_maps": 1}
        super().__init__(params, defaults)
        self._dtype = dtype
        for group in self.param_groups:
            assert all(parameter.ndim >= 2 for parameter in group["params"]), "Muon is for matrices"

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
            update = parameter.grad.lerp(buffer, group["momentum"])
            maps = (tensor.chunk(group["num_maps"], dim=-1) for tensor in (parameter, update))
            for weights, change in zip(*maps, strict=True):
                by_shape.setdefault(tuple(weights.shape[-2:]), []).append((weights, change))
        for shape, members in by_shape.items():
            stacks = [change.reshape(-1, *shape) for _, change in members]
            scale = group["lr"] * 0.2 * max(shape) ** 0.5
            dtype = self._dtype or autocast_dtype("auto", stacks[0].device) or torch.float32
            ortho = orthogonalize(torch.cat(stacks), dtype=dtype).split([stack.shape[0] for stack in stacks])
            for (weights, _), direction in zip(members, ortho, strict=True):
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                weights.sub_(direction.view(weights.shape), alpha=scale)
