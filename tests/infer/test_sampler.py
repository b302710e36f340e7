"""The sampler against probabilities worked out by hand, and against transformers' processors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from camelid.core import Constraint, SamplingParams
from camelid.core.errors import ConfigError, InputError
from camelid.infer.sampler import Sampler

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def probabilities(params: SamplingParams, logits: torch.Tensor, prompt: tuple[int, ...] = ()) -> torch.Tensor:
    """Of all tokens, as the sampler would draw them."""
    sampler = Sampler(params, prompt, len(logits))
    kept, ids = sampler._filtered(sampler._adjust(logits))
    whole = kept if ids is None else torch.zeros(len(logits)).index_copy_(0, ids, kept)
    return whole / whole.sum()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(temperature=1.0), [0.5, 0.3, 0.15, 0.05]),
        (SamplingParams(temperature=1.0, top_k=2), [0.625, 0.375, 0, 0]),
        (SamplingParams(temperature=1.0, top_p=0.8), [0.625, 0.375, 0, 0]),
        (SamplingParams(temperature=1.0, top_p=0.81), [0.5263, 0.3158, 0.1579, 0]),
        (SamplingParams(temperature=1.0, min_p=0.31), [0.625, 0.375, 0, 0]),
        (SamplingParams(temperature=0.5), [0.6849, 0.2466, 0.0616, 0.0068]),
        (SamplingParams(temperature=1.0, logit_bias=((0, -100.0),)), [0, 0.6, 0.3, 0.1]),
    ],
)
def test_drawn_frequencies(params: SamplingParams, expected: list[float]) -> None:
    sampler, draws = Sampler(params, (), 4), 4000
    ids = torch.tensor([sampler(LOGITS).token_id for _ in range(draws)])
    # Three standard deviations of 4,000 draws are at most 0.024.
    assert (torch.bincount(ids, minlength=4) / draws).tolist() == pytest.approx(expected, abs=0.024)
    assert probabilities(params, LOGITS).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 5000},
        {"top_p": 0.5},
        {"top_p": 0.999},
        {"min_p": 0.1},
        {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3},
    ],
)
def test_transformers_processors(fields: dict[str, Any]) -> None:
    """The same tokens stay, with the same probabilities."""
    params, prompt = SamplingParams(**({"temperature": 1.0} | fields)), (3, 5, 5, 800)
    steps: list[LogitsProcessor] = [RepetitionPenaltyLogitsProcessor(params.repetition_penalty)]
    steps += [TemperatureLogitsWarper(params.temperature)]
    if params.top_k:
        steps.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        steps.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        steps.append(MinPLogitsWarper(params.min_p))
    for seed in range(5):
        logits = 3 * torch.randn(1000, generator=torch.Generator().manual_seed(seed))
        theirs = LogitsProcessorList(steps)(torch.tensor([prompt]), logits[None].clone())[0].softmax(-1)
        ours = probabilities(params, logits, prompt)
        assert torch.equal(ours > 0, theirs > 0)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler(SamplingParams(), (), 5)(torch.tensor([0.0, 2.0, 1.0, 2.0, 2.0])).token_id == 1


def test_penalties_count_what_was_chosen() -> None:
    """The prompt counts for repetition only."""
    logits = torch.tensor([1.0, 0.9, 0.8, -5.0])
    cases: list[tuple[dict[str, float], list[int]]] = [
        ({"presence_penalty": 0.15}, [0, 1, 0, 0]),  # 1.0; then 0.85 0.9; then 0.85 0.75 0.8
        ({"frequency_penalty": 0.15}, [0, 1, 0, 2]),  # ...; then 0.7 0.75 0.8
        ({"repetition_penalty": 1.3}, [0, 2, 0, 0]),  # 1.0 0.69 0.8; then 0.77 0.69 0.8; then 0.77 0.69 0.62
    ]
    for fields, expected in cases:
        sampler = Sampler(SamplingParams(**fields), (1,), 4)  # type: ignore[arg-type]
        assert [sampler(logits).token_id for _ in range(4)] == expected, fields
    assert logits.tolist() == pytest.approx([1.0, 0.9, 0.8, -5.0]), "the caller's logits stay"


def test_same_seed_same_draw() -> None:
    first, second, other = (
        [sampler(torch.zeros(1000)).token_id for _ in range(20)]
        for sampler in (Sampler(SamplingParams(temperature=1.0, seed=seed), (), 1000) for seed in (7, 7, 8))
    )
    assert first == second != other


def test_logprobs_are_the_models_own() -> None:
    params = SamplingParams(temperature=0.0, logit_bias=((0, -100.0),), num_logprobs=2)
    sampled = Sampler(params, (), 4)(LOGITS)
    assert sampled.token_id == 1 and sampled.logprob is not None
    assert sampled.logprob.logprob == pytest.approx(float(LOGITS[1]), abs=1e-6)
    assert [(other.token_id, round(other.logprob, 4)) for other in sampled.alternatives] == [
        (0, -0.6931),
        (1, -1.204),
    ]
    none = Sampler(SamplingParams(num_logprobs=0), (), 4)(LOGITS)
    assert none.logprob is not None and none.alternatives == ()
    assert Sampler(SamplingParams(), (), 4)(LOGITS).logprob is None


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"max_tokens": 0}, {"min_p": 1.5}, {"num_logprobs": -1},
        {"repetition_penalty": 0.0}, {"stop": [""]}, {"logit_bias": [[-1, 0.5]]},
    ],
)  # fmt: skip
def test_senseless_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        SamplingParams.from_dict(dict(bad))


@pytest.mark.parametrize(
    "name", ["temperature", "presence_penalty", "frequency_penalty", "repetition_penalty"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_a_bias_beyond_the_vocabulary() -> None:
    with pytest.raises(InputError, match="the token 9, the vocabulary has 4"):
        Sampler(SamplingParams(logit_bias=((9, 1.0),)), (), 4)


def test_round_trip() -> None:
    params = SamplingParams(stop=("a", "b"), logit_bias=((1, -2.5),), constraint=Constraint("regex", "a+"))
    assert SamplingParams.from_json(params.to_json()) == params


def test_nothing_is_drawn_from_what_is_no_number() -> None:
    logits = torch.tensor([0.0, float("nan"), 1.0])
    with pytest.raises(RuntimeError, match="not numbers"):
        Sampler(SamplingParams(temperature=1.0), [], 3)(logits)
