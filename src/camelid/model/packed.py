"""A model laid out for the native kernels: fewer, larger matrices, in panels, of bf16 or of fewer bits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.model.attention import Attention
from camelid.model.moe import Experts, FeedForward
from camelid.ops import looped_experts
from camelid.ops.native import PackedMatrix, PackedSwiglu
from camelid.ops.quantization import Bits, QuantizedMatrix, quantize_groups

__all__ = [
    "PackedAttention",
    "PackedExperts",
    "PackedFeedForward",
    "PackedLinear",
    "fewer_bits",
    "pack_for_decoding",
]


class PackedLinear(nn.Module):
    """In the place of a linear layer without bias, for inference."""

    def __init__(self, weight: Float[Tensor, "out in"], bits: Bits | None = None) -> None:
        super().__init__()
        self.matrix = PackedMatrix(fewer_bits(weight, bits))

    def forward(self, x: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        return self.matrix(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], self.matrix.height)


class PackedAttention(Attention):
    """In the place of `Attention`, for inference: queries, keys and values come from one matrix."""

    def __init__(self, plain: Attention, bits: Bits | None = None) -> None:
        nn.Module.__init__(self)
        self.layer_type, self.use_qk_norm = plain.layer_type, plain.use_qk_norm
        self.eps, self.head_dim = plain.eps, plain.head_dim
        weights = [plain.q_proj.weight, plain.k_proj.weight, plain.v_proj.weight]
        self.widths = [weight.shape[0] for weight in weights]
        self.qkv = PackedLinear(torch.cat(weights), bits)
        self.o_proj = PackedLinear(plain.o_proj.weight, bits)  # type: ignore[assignment]

    def projections(self, x: Float[Tensor, "tokens hidden"]) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).split(self.widths, -1)
        return q, k, v


class PackedFeedForward(nn.Module):
    """In the place of `FeedForward`, or of one expert, for inference."""

    def __init__(
        self,
        gate: Float[Tensor, "ffn hidden"],
        up: Float[Tensor, "ffn hidden"],
        down: Float[Tensor, "hidden ffn"],
        bits: Bits | None = None,
    ) -> None:
        super().__init__()
        self.gate_up = PackedSwiglu(fewer_bits(gate, bits), fewer_bits(up, bits))
        self.down = PackedMatrix(fewer_bits(down, bits))

    def forward(self, x: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
        return self.down(self.gate_up(x))


class PackedExperts(nn.ModuleList):
    """In the place of `Experts`, for inference: each expert by itself."""

    def __init__(self, plain: Experts, bits: Bits | None = None) -> None:
        super().__init__()
        for gate_up, down in zip(plain.gate_up_proj, plain.down_proj, strict=True):
            gate, up = gate_up.T.chunk(2)
            self.append(PackedFeedForward(gate, up, down.T, bits))

    def forward(
        self,
        x: Float[Tensor, "tokens hidden"],
        scores: Float[Tensor, "tokens top_k"],
        expert_ids: Int[Tensor, "tokens top_k"],
    ) -> Float[Tensor, "tokens hidden"]:
        return looped_experts(x, scores, expert_ids, lambda expert, rows: self[expert](rows))


def fewer_bits(weight: Float[Tensor, "out in"], bits: Bits | None) -> Tensor | QuantizedMatrix:
    """What is packed: the weights themselves, or the nearest of so many bits."""
    return quantize_groups(weight, bits) if bits else weight


@torch.no_grad()
def pack_for_decoding(module: nn.Module, bits: Bits | None = None) -> None:
    """Replaces attention, feed-forward, experts and linear layers below `module`, whose parameters are gone then.

    The weights must be bf16 on a CPU, and `camelid.ops.native.native_paths()` not empty. `bits`: of a weight.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, Attention):
            setattr(module, name, PackedAttention(child, bits))
        elif isinstance(child, FeedForward):
            gate, up, down = child.gate_proj.weight, child.up_proj.weight, child.down_proj.weight
            setattr(module, name, PackedFeedForward(gate, up, down, bits))
        elif isinstance(child, nn.Linear) and "bias" not in dict(child.named_parameters()):
            setattr(module, name, PackedLinear(child.weight, bits))
        elif isinstance(child, Experts):
            setattr(module, name, PackedExperts(child, bits))
        else:
            pack_for_decoding(child, bits)
