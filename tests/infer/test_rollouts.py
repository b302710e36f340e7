"""Answers sampled for training: as likely as the model itself says, whatever path they took through the engine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from camelid.core import Batch, ModelInput
from camelid.infer.rollouts import sample
from camelid.model import Llama4
from camelid.testing.tiny import TinyKind, tiny_input, tiny_model
from camelid.train.objective_step import score
from tiny_engines import engine, request, run, tokenizer

# Measured: 4e-6 at most. Engine and trainer add up in other orders.
TOLERANCE = 1e-4


def gap(model: Llama4, prompts: list[ModelInput], max_tokens: int) -> float:
    """The largest difference between the engine's log-probabilities and those of a packed forward pass."""
    rollouts = sample(model, tokenizer(), prompts, list(range(len(prompts))), max_tokens=max_tokens)
    whole = []
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        ids = torch.cat([prompt.token_ids, torch.tensor(rollout.token_ids)])
        weights = torch.cat([torch.zeros(len(prompt)), torch.ones(len(rollout.token_ids))])
        whole.append(replace(prompt, token_ids=ids, loss_weights=weights))
    with torch.no_grad():
        scored, _ = score(model, Batch.pack(whole))
    sampled = torch.tensor([value for rollout in rollouts for value in rollout.logprobs])
    assert len(sampled) == len(prompts) * max_tokens
    return float((scored.logprobs - sampled).abs().max())


@pytest.mark.parametrize("kind", ["scout", "maverick"])
def test_engine_and_trainer_agree_on_64_sequences(kind: TinyKind) -> None:
    model = tiny_model(kind, vision=True, attention_chunk_size=64)
    prompts = [tiny_input(model.config, 20 + 3 * number, (4,), seed=number) for number in range(8)]
    prompts += [tiny_input(model.config, 5 + number, seed=number) for number in range(8)]
    assert gap(model, [prompt for prompt in prompts for _ in range(4)], 30) < TOLERANCE


def test_answers_that_pass_the_end_of_a_chunk_and_of_a_page() -> None:
    model = tiny_model(attention_chunk_size=64)
    prompts = [tiny_input(model.config, length, seed=length) for length in (60, 63, 64, 127, 130)]
    assert gap(model, prompts, 10) < TOLERANCE


def test_the_live_weights_answer_and_go_on_learning() -> None:
    model = tiny_model()
    prompts = [tiny_input(model.config, 9)] * 4
    before = sample(model, tokenizer(), prompts, [1, 2, 3, 4], max_tokens=6)
    assert before == sample(model, tokenizer(), prompts, [1, 2, 3, 4], max_tokens=6)
    assert len({rollout.token_ids for rollout in before}) == 4
    output = model(prompts[0].token_ids)
    output.hidden.sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    after = sample(model, tokenizer(), prompts, [1, 2, 3, 4], max_tokens=6)
    assert [one.logprobs for one in before] != [one.logprobs for one in after]


@pytest.mark.parametrize("chunk", [16, 64])
def test_side_by_side_is_as_one_by_one(chunk: int) -> None:
    """Greedy answers of a crowd and of each alone."""
    names = {name: (length, seed) for seed, (name, length) in enumerate({"a": 3, "b": 40, "c": 70}.items())}
    requests = [request(name, *place, temperature=0.0, num_logprobs=0) for name, place in names.items()]
    crowd = run(engine(dtype=torch.float32, chunk=chunk), *requests)
    for one in requests:
        alone = run(engine(dtype=torch.float32, chunk=chunk), one)[one.id]
        assert [event.token_id for event in alone] == [event.token_id for event in crowd[one.id]]
        for ours, theirs in zip(alone, crowd[one.id], strict=True):
            assert ours.logprob is not None and theirs.logprob is not None
            assert ours.logprob.logprob == pytest.approx(theirs.logprob.logprob, abs=TOLERANCE)
