"""A model whose matrices are packed for decoding: every product of one token at the speed of memory."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.model.attention import Attention
from camelid.model.moe import Experts, FeedForward
from camelid.ops import looped_experts, pack_matrix, swiglu

__all__ = ["PackedAttention", "PackedExperts", "PackedFeedForward", "PackedLinear", "pack_for_decoding"]


class PackedLinear(nn.Module):
    """In the place of a linear layer without bias, for inference."""

    def __init__(self, weight: Float[Tensor, "out in"]) -> None:
        super().__init__()
        self.matrix = pack_matrix(weight)

    def forward(self, x: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        return self.matrix(x)


class PackedAttention(Attention):
    """In the place of `Attention`, for inference: queries, keys and values come from one matrix."""

    def __init__(self, plain: Attention) -> None:
        nn.Module.__init__(self)
        self.layer_type, self.use_qk_norm = plain.layer_type, plain.use_qk_norm
        self.eps, self.head_dim = plain.eps, plain.head_dim
        weights = [plain.q_proj.weight, plain.k_proj.weight, plain.v_proj.weight]
        self.widths = [weight.shape[0] for weight in weights]
        self.qkv = pack_matrix(torch.cat(weights))
        self.o_proj = PackedLinear(plain.o_proj.weight)  # type: ignore[assignment]

    def projections(self, x: Float[Tensor, "tokens hidden"]) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).split(self.widths, -1)
        return q, k, v


class PackedFeedForward(nn.Module):
    """In the place of `FeedForward`, for inference: gate and up are one matrix."""

    def __init__(self, dense: FeedForward) -> None:
        super().__init__()
        self.gate_up = pack_matrix(torch.cat([dense.gate_proj.weight, dense.up_proj.weight]))
        self.down = pack_matrix(dense.down_proj.weight)

    def forward(self, x: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
        return self.down(swiglu(self.gate_up(x)))


class PackedExperts(nn.Module):
    """In the place of `Experts`, for inference: each expert packed by itself."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        # One expert at a time, so that no more than one is there twice.
        self.gate_up = [pack_matrix(weight.T) for weight in experts.gate_up_proj]
        self.down = [pack_matrix(weight.T) for weight in experts.down_proj]

    def forward(
        self,
        x: Float[Tensor, "tokens hidden"],
        scores: Float[Tensor, "tokens top_k"],
        expert_ids: Int[Tensor, "tokens top_k"],
    ) -> Float[Tensor, "tokens hidden"]:
        return looped_experts(x, scores, expert_ids, self._expert)

    def _expert(self, expert: int, rows: Tensor) -> Tensor:
        return self.down[expert](swiglu(self.gate_up[expert](rows)))


@torch.no_grad()
def pack_for_decoding(module: nn.Module) -> None:
    """Replaces attention, feed-forward, experts and linear layers below `module`, whose parameters are gone then."""
    for name, child in list(module.named_children()):
        if isinstance(child, Attention):
            setattr(module, name, PackedAttention(child))
        elif isinstance(child, FeedForward):
            setattr(module, name, PackedFeedForward(child))
        elif isinstance(child, nn.Linear) and "bias" not in dict(child.named_parameters()):
            setattr(module, name, PackedLinear(child.weight))
        elif isinstance(child, Experts):
            setattr(module, name, PackedExperts(child))
        else:
            pack_for_decoding(child)
