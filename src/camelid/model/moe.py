"""Feed-forward layers: dense SwiGLU, and sigmoid top-1 experts beside a shared expert."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.model.config import TextConfig
from camelid.model.output import RouterOutput
from camelid.ops import compute_dtype, routed_experts, swiglu

__all__ = ["Experts", "FeedForward", "MoE", "Router"]


class FeedForward(nn.Module):
    """down(silu(gate x) * up x)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
        out: Tensor = self.down_proj(swiglu(torch.cat([self.gate_proj(x), self.up_proj(x)], dim=-1)))
        return out


class Router(nn.Module):
    """Chooses experts by the largest logit; the weight of a choice is the sigmoid of its own logit.

    `selection_bias` moves the choice only, never the weight. It is zero in every released model and no part of
    a checkpoint; balancing without an auxiliary loss may use it during training.
    """

    selection_bias: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.num_local_experts, config.hidden_size))
        self.register_buffer("selection_bias", torch.zeros(config.num_local_experts), persistent=False)

    def forward(
        self, x: Float[Tensor, "tokens hidden"]
    ) -> tuple[Float[Tensor, "tokens top_k"], Int[Tensor, "tokens top_k"], Float[Tensor, "tokens experts"]]:
        """Scores in x's dtype, expert ids, and fp32 logits: bf16 logits tie, and ties pick other experts."""
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.weight.float())
        if self.top_k == 1:
            expert_ids = (logits.detach() + self.selection_bias).argmax(-1, keepdim=True)
        else:
            expert_ids = (logits.detach() + self.selection_bias).topk(self.top_k, dim=-1).indices
        return logits.gather(-1, expert_ids).sigmoid().to(x.dtype), expert_ids, logits


class Experts(nn.Module):
    """All routed experts of a layer, stored [experts, in, out], gate and up halves fused."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        experts, hidden, ffn = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, hidden, 2 * ffn))
        self.down_proj = nn.Parameter(torch.empty(experts, ffn, hidden))

    def forward(
        self,
        x: Float[Tensor, "tokens hidden"],
        scores: Float[Tensor, "tokens top_k"],
        expert_ids: Int[Tensor, "tokens top_k"],
    ) -> Float[Tensor, "tokens hidden"]:
        dtype = compute_dtype(x)  # grouped_mm is not on autocast's list, so autocast is honoured by hand
        return routed_experts(
            x.to(dtype), scores.to(dtype), expert_ids, self.gate_up_proj.to(dtype), self.down_proj.to(dtype)
        )


class MoE(nn.Module):
    """Expert_e(sigmoid(r_e) · x) + Shared(x), e the best-scored expert."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config)
        self.shared_expert = FeedForward(config.hidden_size, config.intermediate_size)

    def forward(
        self, x: Float[Tensor, "tokens hidden"]
    ) -> tuple[Float[Tensor, "tokens hidden"], RouterOutput]:
        scores, expert_ids, logits = self.router(x)
        out = self.shared_expert(x) + self.experts(x, scores, expert_ids)
        return out, RouterOutput(logits, expert_ids)
