"""The peer: transformers' Llama 4, given our configuration and our weights, in bf16."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Llama4ForCausalLM, Llama4TextConfig

from camelid.checkpoint.hf_config import config_to_hf
from camelid.model import Llama4, init_weights, preset

__all__ = ["build_ours", "build_peer", "random_tokens"]

PREFIX = "language_model."


def build_ours(name: str) -> Llama4:
    """A preset of ours with random bf16 weights, the same ones every time."""
    return init_weights(Llama4(preset(name)).to(torch.bfloat16), seed=0)


def build_peer(name: str) -> Llama4ForCausalLM:
    """The same model with the same weights in transformers, attention by torch's SDPA."""
    ours = build_ours(name)
    config = Llama4TextConfig(**(config_to_hf(ours.config) | {"pad_token_id": None}))
    peer: Llama4ForCausalLM = AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    peer.load_state_dict({key.removeprefix(PREFIX): value for key, value in ours.state_dict().items()})
    return peer


def random_tokens(sequences: int, length: int, vocab_size: int) -> Tensor:
    """[sequences length] token ids from a fixed seed."""
    return torch.randint(0, vocab_size, (sequences, length), generator=torch.Generator().manual_seed(0))
