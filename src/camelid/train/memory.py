"""What training keeps in memory beside the weights: the optimizer's state, and what a forward pass leaves behind."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from camelid.model import Llama4Config
from camelid.train.optimizer import OptimizerConfig, is_hidden_matrix
from camelid.train.precision import Precision

__all__ = ["activation_bytes", "optimizer_bytes"]

FP32 = 4


def optimizer_bytes(parameters: Mapping[str, Tensor], config: OptimizerConfig) -> int:
    """Of parameters by name, which may be on the meta device: one fp32 moment for Muon's, two for AdamW's."""
    by_muon = config.kind == "muon"
    return sum(
        FP32 * value.numel() * (1 if by_muon and is_hidden_matrix(name, value) else 2)
        for name, value in parameters.items()
    )


def activation_bytes(config: Llama4Config, num_tokens: int, precision: Precision) -> int:
    """What the decoder keeps of `num_tokens` tokens for its backward pass, nothing being computed twice.

    Counted from the tensors that our layers save, and checked against them in tests: within 5 % in fp32. In bf16
    (and in `auto`, which is bf16 on accelerators) the residual stream and what norms read stay fp32. Left out are the
    vision encoder, weights cast to bf16, the head's chunk of logits, and the attention probabilities that our bf16
    attention keeps where there is no GPU.
    """
    text = config.text
    residual, low = FP32, FP32 if precision == "fp32" else 2
    query, kv = (heads * text.head_dim for heads in (text.num_attention_heads, text.num_key_value_heads))
    total = 0.0
    for layer, kind in enumerate(text.layer_types):
        # Two norms and what they give, the sum between attention and feed-forward, attention's output.
        total += text.hidden_size * (
            4.25 * residual + low if precision == "fp32" else 3.25 * residual + 3 * low
        )
        total += low * (query + 2 * kv)
        if kind == "chunked" and text.use_qk_norm:
            total += residual * (query + kv)
        if layer in text.moe_layers:
            sent = text.num_experts_per_tok
            total += low * (sent * text.hidden_size + 3 * (1 + sent) * text.intermediate_size)
        else:
            total += low * 3 * text.intermediate_size_mlp
    return int(total * num_tokens)
