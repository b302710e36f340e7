"""The peer: transformers' Llama 4 with our weights, both in bf16, and one training step of each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Llama4ForCausalLM, Llama4TextConfig

from camelid.checkpoint.hf_layout import config_to_hf
from camelid.model import Llama4, init_weights, preset
from camelid.train.losses import cross_entropy_sum

__all__ = ["build_ours", "build_peer", "our_training_step", "peer_training_step", "random_tokens"]

PREFIX = "language_model."
LEARNING_RATE = 1e-4


def build_ours(name: str) -> Llama4:
    """A preset of ours with random bf16 weights."""
    return init_weights(Llama4(preset(name)).to(torch.bfloat16), seed=0)


def build_peer(ours: Llama4) -> Llama4ForCausalLM:
    """The same configuration and a copy of the same weights in transformers, attention by torch's SDPA."""
    values = config_to_hf(ours.config) | {"pad_token_id": None}
    peer: Llama4ForCausalLM = AutoModelForCausalLM.from_config(
        Llama4TextConfig(**values), dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    weights = {key.removeprefix(PREFIX): value for key, value in ours.state_dict().items()}
    peer.load_state_dict(weights)
    return peer


def random_tokens(sequences: int, length: int, vocab_size: int) -> Tensor:
    """[sequences length] token ids from a fixed seed."""
    return torch.randint(0, vocab_size, (sequences, length), generator=torch.Generator().manual_seed(0))


def peer_training_step(peer: Llama4ForCausalLM, tokens: Tensor) -> Callable[[], float]:
    """Forward, backward and fused AdamW; each call does one step and returns its loss."""
    peer.train()
    optimizer = _optimizer(peer)

    def step() -> float:
        loss = peer(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def our_training_step(ours: Llama4, tokens: Tensor) -> Callable[[], float]:
    """The same step with our model and our loss: every token but a sequence's last predicts the next."""
    ours.train()
    optimizer = _optimizer(ours)
    lengths = [tokens.shape[1]] * tokens.shape[0]
    targets = tokens.roll(-1, dims=1).flatten()
    weights = torch.ones(tokens.shape)
    weights[:, -1] = 0

    def step() -> float:
        hidden = ours(tokens.flatten(), lengths).hidden
        head = ours.language_model.lm_head.weight
        total, _ = cross_entropy_sum(hidden, head, targets, weights.flatten())
        loss = total / weights.sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
