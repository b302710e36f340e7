"""Fresh weights: all of them, from the seed alone, of the size that init.py states."""

from __future__ import annotations

import math

import pytest
import torch

from camelid.model import Llama4, init_weights
from camelid.testing.tiny import TinyKind, tiny_config


def fresh(kind: TinyKind, seed: int) -> dict[str, torch.Tensor]:
    model = Llama4(tiny_config(kind, vision=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    return dict(init_weights(model, seed).state_dict())


def test_every_parameter_is_drawn_from_the_seed_alone(kind: TinyKind) -> None:
    first = fresh(kind, 1)
    torch.rand(5)
    again, other = fresh(kind, 1), fresh(kind, 2)
    for name, tensor in first.items():
        assert tensor.isfinite().all(), name
        assert torch.equal(tensor, again[name]), name
        is_constant = "norm" in name or name.endswith("bias")
        assert torch.equal(tensor, other[name]) == is_constant, name


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("language_model.model.embed_tokens.weight", 1.0),
        ("language_model.lm_head.weight", 48**-0.5),
        ("language_model.model.layers.5.self_attn.q_proj.weight", 48**-0.5),
        ("language_model.model.layers.5.self_attn.o_proj.weight", 64**-0.5 / math.sqrt(12)),
        ("language_model.model.layers.2.feed_forward.experts.gate_up_proj", 48**-0.5),
        ("language_model.model.layers.2.feed_forward.experts.down_proj", 40**-0.5 / math.sqrt(6)),
        ("vision_model.patch_embedding.linear.weight", 48**-0.5),
        ("vision_model.model.layers.1.mlp.fc2.weight", 96**-0.5 / math.sqrt(4)),
        ("vision_model.positional_embedding_vlm", 24**-0.5),
    ],
)
def test_scales(name: str, std: float) -> None:
    """Cut at three standard deviations, a normal keeps 0.987 of its own."""
    weight = fresh("scout", 0)[name]
    assert weight.std() == pytest.approx(0.987 * std, rel=6 / math.sqrt(2 * weight.numel()))
    assert weight.abs().max() <= 3 * std


def test_no_expert_is_a_copy_of_another() -> None:
    """Drawn independently: the correlation of any two is that of chance."""
    experts = fresh("scout", 0)["language_model.model.layers.2.feed_forward.experts.gate_up_proj"].flatten(1)
    alike = torch.corrcoef(experts).fill_diagonal_(0.0)
    assert alike.abs().max() < 4 / math.sqrt(experts.shape[1])


def test_scales_multiply_what_is_drawn_and_leave_the_rest() -> None:
    name = "language_model.lm_head.weight"
    model = Llama4(tiny_config("scout", vision=True))
    scaled = init_weights(model, 0, {name: 0.25, "language_model.model.norm.weight": 0.5}).state_dict()
    for other, tensor in fresh("scout", 0).items():
        torch.testing.assert_close(scaled[other], tensor * (0.25 if other == name else 1.0), msg=other)


@torch.no_grad()
def test_a_fresh_model_guesses_evenly() -> None:
    """The loss of a fresh model is near ln(vocabulary), however deep it is."""
    model = init_weights(Llama4(tiny_config("scout")), 0)
    token_ids = torch.randint(384, (400,))
    logits = model.logits(model(token_ids[:-1]).hidden)
    loss = torch.nn.functional.cross_entropy(logits, token_ids[1:])
    assert loss == pytest.approx(math.log(384) + 0.5, abs=0.2)  # the head's unit logits cost half a nat
