"""A teacher's draws: no bias, a dozen ids, a fine tail, new ones every epoch, none where nothing is learnt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from camelid.core import Batch, ModelInput
from camelid.data import TeacherTargets, batch_key
from camelid.testing.tiny import tiny_input, tiny_model
from camelid.train import TeacherOnTheFly, teacher
from camelid.train.distillation import sparse_targets
from camelid.train.losses import plain_sparse_target_cross_entropy, sparse_target_cross_entropy
from camelid.train.teacher import draw_seed, draw_targets, num_draws_for
from train.toy_training import MODEL, toy_batch, toy_model

TOKENS, HIDDEN, VOCAB, RESAMPLES = 6, 16, 120, 10_000


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def draw(hidden: Tensor, head: Tensor, seed: int = 0) -> TeacherTargets:
    ones = torch.ones(len(hidden))
    return draw_targets(hidden, head, torch.zeros(len(hidden), dtype=torch.int64), ones, seed)


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_the_gradient_of_many_resamples_is_that_of_full_distillation() -> None:
    """Ten thousand resamples of six tokens in one pass: within 1 %, measured 0.2. The best twelve ids never are."""
    teacher_hidden, teacher_head = torch.randn(TOKENS, HIDDEN), torch.randn(VOCAB, HIDDEN) * 0.5
    probs = (teacher_hidden @ teacher_head.mT).softmax(-1)
    student = torch.randn(TOKENS, HIDDEN, requires_grad=True)
    head = torch.randn(VOCAB, HIDDEN, requires_grad=True)
    full = plain_sparse_target_cross_entropy(student, head, probs, torch.ones(TOKENS))
    wanted = torch.autograd.grad(full, (student, head))

    targets = draw(teacher_hidden.repeat(RESAMPLES, 1), teacher_head)
    rows = TOKENS * RESAMPLES
    many = Batch.pack([ModelInput.of_text([0] * rows)])
    many = replace(many, loss_weights=torch.ones(rows))
    loss = sparse_target_cross_entropy(
        student.repeat(RESAMPLES, 1),
        head,
        torch.zeros(rows, dtype=torch.int64),
        torch.full((rows,), 1 / RESAMPLES),
        sparse_targets(targets, many),
        torch.ones(rows),
    )
    found = torch.autograd.grad(loss.total, (student, head))
    assert loss.total.item() == pytest.approx(full.item(), rel=1e-3)
    assert max(map(relative, found, wanted)) < 0.01

    best, places = probs.topk(12)
    truncated = torch.zeros_like(probs).scatter(1, places, best / best.sum(-1, keepdim=True))
    biased = plain_sparse_target_cross_entropy(student, head, truncated, torch.ones(TOKENS))
    assert min(map(relative, torch.autograd.grad(biased, (student, head)), wanted)) > 0.05


def test_every_token_has_all_its_draws_and_a_dozen_ids_on_average() -> None:
    head = torch.randn(VOCAB, HIDDEN)
    for sharpness in (0.05, 0.3, 1.0):
        targets = draw(torch.randn(2000, HIDDEN) * sharpness, head)
        offsets = targets.offsets()
        sums = torch.zeros(2000, dtype=torch.int64).index_add_(
            0, torch.arange(2000).repeat_interleave(offsets.diff()), targets.counts
        )
        assert (sums == targets.num_draws).all()
        assert 11 <= len(targets.ids) / 2000 < 12.1, "more draws where the teacher is surer"
    certain = draw(torch.randn(50, HIDDEN) * 100, head)
    assert certain.num_draws == 255, "a count takes a byte"


def test_fewer_draws_than_a_dozen_make_no_sense_even_for_an_even_distribution() -> None:
    assert num_draws_for(torch.full((3, 1000), 1e-3)) == 11


def test_log_probs_and_entropies_are_the_teachers() -> None:
    hidden, head, ids = torch.randn(30, HIDDEN), torch.randn(VOCAB, HIDDEN) * 0.3, torch.randint(VOCAB, (30,))
    targets = draw_targets(hidden, head, ids, torch.ones(30), 0)
    log_probs = (hidden @ head.mT).log_softmax(-1)
    expected = log_probs.gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(targets.log_probs.float(), expected, rtol=1e-3, atol=1e-3)
    entropies = -(log_probs.exp() * log_probs).sum(-1)
    torch.testing.assert_close(targets.entropies.float(), entropies, rtol=1e-3, atol=1e-3)
    assert targets.log_probs.dtype == targets.entropies.dtype == torch.float16


def test_the_tail_of_a_teacher_in_bf16_is_drawn_from_in_fp32() -> None:
    """Logits around 60 have steps of a quarter in bf16: ids would weigh up to 13 % too much or too little."""
    vocab = 64
    head = torch.stack([torch.full((vocab,), 60.0), torch.linspace(0, 1, vocab)], dim=1).bfloat16()
    hidden = torch.ones(40_000, 2).bfloat16()
    probs = (hidden[:1].float() @ head.float().mT).softmax(-1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        targets = draw(hidden, head)
    found = torch.zeros(vocab).index_add_(0, targets.ids, targets.counts.float())
    found /= found.sum()
    assert ((found - probs).abs() / probs).max() < 0.05
    coarse = (hidden[:1] @ head.mT).float().softmax(-1)[0]
    assert ((coarse - probs).abs() / probs).max() > 0.1, "else this test shows nothing"


def test_noise_is_never_used_twice() -> None:
    hidden, head = torch.randn(50, HIDDEN), torch.randn(VOCAB, HIDDEN) * 0.3
    key, other = batch_key(toy_batch(0)), batch_key(toy_batch(1))
    seeds = [draw_seed(0, key, 0), draw_seed(0, key, 9), draw_seed(0, other, 0), draw_seed(1, key, 0)]
    assert len(set(seeds)) == 4
    drawn = [draw(hidden, head, seed).ids for seed in (seeds[0], *seeds)]
    assert torch.equal(drawn[0], drawn[1])
    for again in drawn[2:]:
        assert len(again) != len(drawn[0]) or not torch.equal(again, drawn[0])


def test_the_same_batch_in_a_second_epoch_has_draws_of_its_own() -> None:
    source, batch = TeacherOnTheFly(toy_model(), seed=0), toy_batch(0)
    first, again, later = (source.targets(batch, number) for number in (0, 0, 7))
    assert torch.equal(first.ids, again.ids) and torch.equal(first.counts, again.counts)
    assert torch.equal(first.log_probs, later.log_probs)
    assert first.ids.tolist() != later.ids.tolist()


def test_only_what_is_learnt_has_targets() -> None:
    """No picture's patches, nothing of weight 0, and no document's first token: packed or alone, it is the same."""
    pictured = tiny_input(MODEL, 30, (3, 9), seed=1)
    silent = replace(
        tiny_input(MODEL, 9, seed=2), loss_weights=torch.ones(9).index_fill(0, torch.arange(5), 0.0)
    )
    text = tiny_input(MODEL, 17, seed=3)
    batch = Batch.pack([pictured, silent, text])
    learnt = batch.loss_weights.nonzero()[:, 0]
    is_patch = torch.zeros(batch.num_tokens + 1, dtype=torch.bool).index_fill_(0, batch.patch_positions, True)
    firsts = torch.tensor(batch.document_lengths).cumsum(0)
    assert not is_patch[learnt + 1].any()
    assert not torch.isin(learnt + 1, firsts).any(), "nobody predicts the next document"
    assert len(learnt) == (30 - 8 - 1) + 4 + 16

    source = TeacherOnTheFly(toy_model(), seed=0)
    together = source.targets(batch, 0)
    assert together.num_tokens == len(learnt)
    alone = [source.targets(Batch.pack([document]), 0) for document in (pictured, silent, text)]
    log_probs = torch.cat([targets.log_probs for targets in alone])
    torch.testing.assert_close(together.log_probs, log_probs, atol=2e-3, rtol=2e-3)


def test_chunks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head = torch.randn(50, HIDDEN), torch.randn(VOCAB, HIDDEN) * 0.3
    whole = draw(hidden, head)
    monkeypatch.setattr(teacher, "MIN_CHUNK_ROWS", 1)
    monkeypatch.setattr(teacher, "CHUNK_LOGITS", 7 * VOCAB)
    pieces = draw(hidden, head)
    assert torch.equal(whole.ids, pieces.ids) and torch.equal(whole.counts, pieces.counts)


def test_a_batch_with_nothing_to_learn_has_no_targets() -> None:
    hidden, head = torch.randn(5, HIDDEN), torch.randn(VOCAB, HIDDEN)
    none = draw_targets(hidden, head, torch.zeros(5, dtype=torch.int64), torch.zeros(5), 0)
    assert none.num_tokens == 0 and len(none.ids) == 0 and none.offsets().tolist() == [0]


def test_draws_cost_nothing_to_a_model_in_training() -> None:
    """No gradient and no random number of the run's."""
    model = tiny_model(vision=True, layer_types=("chunked", "global"), moe_layers=(0, 1))
    before = torch.get_rng_state()
    targets = TeacherOnTheFly(model, seed=0).targets(toy_batch(0), 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not targets.log_probs.requires_grad and math.isfinite(float(targets.log_probs.float().sum()))
