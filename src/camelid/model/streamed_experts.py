"""Experts that stay on disk until a token is routed to them, and the memory that keeps those used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.ops import looped_experts, swiglu

__all__ = ["ExpertCache", "StreamedExperts"]

Read = Callable[[int], tuple[Tensor, Tensor]]
"""An expert's gate_up_proj [hidden, 2 ffn] and down_proj [ffn, hidden]."""


class ExpertCache:
    """The experts used last, of all layers together, within a bound."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_hits = 0
        self.num_reads = 0
        self._kept: OrderedDict[tuple[int, int], tuple[Tensor, Tensor]] = OrderedDict()

    def get(self, layer: int, expert: int, read: Read) -> tuple[Tensor, Tensor]:
        """The expert, from memory or else by `read`; those unused longest make room first."""
        key = layer, expert
        if key in self._kept:
            self._kept.move_to_end(key)
            self.num_hits += 1
            return self._kept[key]
        # All experts are of one size: room is made before reading, so that the bound holds at any time.
        size = self.num_bytes // len(self._kept) if self._kept else 0
        while self._kept and self.num_bytes + size > self.max_bytes:
            self.num_bytes -= _size(self._kept.popitem(last=False)[1])
        weights = read(expert)
        self.num_reads += 1
        self._kept[key] = weights
        self.num_bytes += _size(weights)
        return weights


def _size(weights: tuple[Tensor, Tensor]) -> int:
    return sum(weight.nbytes for weight in weights)


class StreamedExperts(nn.Module):
    """In the place of `Experts`, for inference. It has no parameters: they are where `read` finds them."""

    def __init__(self, layer: int, read: Read, cache: ExpertCache) -> None:
        super().__init__()
        self.layer = layer
        self.read = read
        self.cache = cache

    def forward(
        self,
        x: Float[Tensor, "tokens hidden"],
        scores: Float[Tensor, "tokens top_k"],
        expert_ids: Int[Tensor, "tokens top_k"],
    ) -> Float[Tensor, "tokens hidden"]:
        assert not torch.is_grad_enabled(), "experts on disk do not learn"
        return looped_experts(x, scores, expert_ids, self._expert)

    def _expert(self, expert: int, rows: Tensor) -> Tensor:
        gate_up, down = self.cache.get(self.layer, expert, self.read)
        return swiglu(rows @ gate_up) @ down
