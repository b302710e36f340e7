"""Members whose embedding is the head as well, and members that see the whole context with RoPE."""

from __future__ import annotations

import pytest
import torch

from camelid.core import Batch
from camelid.model import Llama4, total_parameters
from camelid.testing.tiny import TinyKind, tiny_config, tiny_input, tiny_model
from camelid.train.losses import plain_cross_entropy

DENSE = {
    "moe_layers": (),
    "layer_types": ("chunked",) * 3,
    "use_qk_norm": False,
    "attention_chunk_size": 64,
    "max_position_embeddings": 64,
}


@torch.no_grad()
def test_the_embedding_is_the_head(kind: TinyKind) -> None:
    model = tiny_model(kind, tie_word_embeddings=True)
    assert not any("lm_head" in name for name in model.state_dict())
    hidden = model(tiny_input(model.config, 20).token_ids).hidden
    embedding = model.language_model.model.embed_tokens.weight
    assert torch.equal(model.logits(hidden), hidden @ embedding.T)
    assert model.language_model.head_weight is embedding
    assert total_parameters(model.config) == sum(p.numel() for p in model.parameters())


@torch.no_grad()
def test_first_logits_are_small_all_the_same() -> None:
    """An untied embedding has std 1; as a head it would make logits of std sqrt(hidden)."""
    for is_tied in (False, True):
        model = tiny_model(tie_word_embeddings=is_tied)
        logits = model.logits(model(tiny_input(model.config, 100).token_ids).hidden)
        assert logits.std() < 2


def test_both_uses_teach_it() -> None:
    model = tiny_model("dense", tie_word_embeddings=True)
    batch = Batch.pack([tiny_input(model.config, 30)])
    weight = model.language_model.head_weight
    hidden = model(batch.token_ids).hidden
    plain_cross_entropy(hidden, weight, batch.target_ids, batch.loss_weights).backward()
    gradient = weight.grad
    assert gradient is not None
    unseen = torch.ones(len(gradient), dtype=torch.bool).index_fill(0, batch.token_ids, False)
    assert unseen.any() and gradient[unseen].norm(dim=-1).min() > 0, "as a head"
    model.zero_grad()
    hidden = model(batch.token_ids).hidden
    plain_cross_entropy(hidden, weight.detach(), batch.target_ids, batch.loss_weights).backward()
    assert weight.grad is not None and weight.grad[batch.token_ids[0]].norm() > 0, "as an embedding"


def test_it_survives_storage_without_memory() -> None:
    """Tying is a matter of the config: nothing comes apart when parameters are made anew."""
    config = tiny_config(tie_word_embeddings=True)
    with torch.device("meta"):
        model = Llama4(config)
    model.to_empty(device="cpu").to(torch.bfloat16)
    assert model.language_model.head_weight is model.language_model.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("changes", "all_rope", "ancestor"),
    [
        ({}, True, True),
        ({"attention_chunk_size": 100}, True, True),
        ({"use_qk_norm": True}, True, False),
        ({"moe_layers": (1,)}, True, False),
        ({"attention_chunk_size": 63}, False, False),
        ({"layer_types": ("chunked", "chunked", "global")}, False, False),
    ],
)
def test_who_is_an_ancestor(changes: dict[str, object], all_rope: bool, ancestor: bool) -> None:
    text = tiny_config(**DENSE | changes).text
    assert (text.is_all_rope, text.is_dense_ancestor) == (all_rope, ancestor)
