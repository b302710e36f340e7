"""The recall toy asks what it says, and the way to a million tokens gives what a plain forward pass gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from camelid.claims import CLAIMS, run_claim
from camelid.claims.irope_extrapolates import CHUNK, IROPE_EXTRAPOLATES, PositionArm, build_model
from camelid.claims.long_reading import logits_at_end
from camelid.claims.recall_toy import NUM_KINDS, NUM_QUERIES, ToyLoader, recall_problem, training_batch
from camelid.core.errors import ConfigError
from camelid.data import StarterPack
from camelid.model import init_weights
from camelid.testing import tiny_model

ARMS = IROPE_EXTRAPOLATES.arms("smoke")


@pytest.mark.parametrize("arm", ARMS.values(), ids=list(ARMS))
@torch.no_grad()
def test_reading_for_the_end_is_reading(arm: PositionArm) -> None:
    model = init_weights(build_model(arm), 0).eval()
    ids, _ = recall_problem(5 * CHUNK + 6, torch.Generator().manual_seed(0))
    plain = model.logits(model(ids).hidden)[-16:]
    torch.testing.assert_close(logits_at_end(model, ids, 16, piece=50), plain, atol=2e-5, rtol=0)


def test_only_rotation_sets_the_minimal_pair_apart() -> None:
    ours, pair = (
        init_weights(build_model(ARMS[arm]), 0) for arm in ("iRoPE + temperature", "RoPE in the global layer")
    )
    assert ours.state_dict().keys() == pair.state_dict().keys()
    assert all(torch.equal(value, pair.state_dict()[name]) for name, value in ours.state_dict().items())
    ids, _ = recall_problem(4 * CHUNK, torch.Generator().manual_seed(0))
    turned = pair.language_model.model.layers[3].self_attn
    with torch.no_grad():
        before = pair(ids).hidden
        assert not torch.allclose(before, ours(ids).hidden, atol=1e-3)
        # Where queries are zero, nothing is left to rotate: the rest is the same.
        turned.q_proj.weight.zero_()
        ours.language_model.model.layers[3].self_attn.q_proj.weight.zero_()
        torch.testing.assert_close(pair(ids).hidden, ours(ids).hidden, atol=1e-5, rtol=0)
    assert before.shape == (4 * CHUNK, 64)


def test_a_global_layer_in_the_middle_cannot_be_skipped() -> None:
    with pytest.raises(ConfigError, match="only the last layer may be global"):
        logits_at_end(tiny_model("dense"), torch.zeros(40, dtype=torch.int64), 4)


def test_every_query_has_its_answer_in_the_document() -> None:
    generator = torch.Generator().manual_seed(1)
    ids, values = recall_problem(512, generator)
    body, asked = ids[: -2 * NUM_QUERIES], ids[-2 * NUM_QUERIES :: 2]
    places = [int((body == key).nonzero()[0, 0]) for key in asked]
    assert all(place % 2 == 0 for place in places), "no pair straddles the border of a chunk"
    assert torch.equal(body[torch.tensor(places) + 1], values) and len(set(asked.tolist())) == NUM_QUERIES
    ids, values = recall_problem(512, generator, straddled_chunk=CHUNK)
    body, asked = ids[: -2 * NUM_QUERIES], ids[-2 * NUM_QUERIES :: 2]
    places = [int((body == key).nonzero()[0, 0]) for key in asked]
    assert all(place % CHUNK == CHUNK - 1 for place in places)
    assert torch.equal(body[torch.tensor(places) + 1], values)


def test_the_loss_is_on_values_whose_key_came_before() -> None:
    batch = training_batch(3, 128, torch.Generator().manual_seed(2))
    for document in range(3):
        seen: dict[int, int] = {}
        for place in range(128 * document, 128 * (document + 1) - 1):
            key, value = int(batch.token_ids[place]), int(batch.token_ids[place + 1])
            assert bool(batch.loss_weights[place]) == (key in seen)
            if key < NUM_KINDS:
                assert seen.setdefault(key, value) == value == int(batch.target_ids[place])


def test_batches_resume() -> None:
    (_, state), (second, _) = (pair for pair, _ in zip(ToyLoader.at(2, 128, 5, None), range(2), strict=False))
    again, _ = next(iter(ToyLoader.at(2, 128, 5, state.to_dict())))
    assert torch.equal(second.token_ids, again.token_ids)


@pytest.mark.parametrize("name", ["irope-extrapolates", "early-fusion", "distillation"])
def test_the_smoke_form_goes_all_the_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StarterPack, "open", cache(StarterPack.open))
    claim = CLAIMS[name]
    result = run_claim(claim, seeds=[0], form="smoke", root=tmp_path)
    assert result.evidence.arms == tuple(claim.arms("smoke"))
    assert claim.draw(result.evidence).endswith("</svg>\n")
    assert claim.arms("smoke").keys() == claim.arms("full").keys()
