"""With a draft, every request must give the very tokens that it gives without, however good the guesses are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from camelid.core import Constraint
from camelid.core.errors import ConfigError
from camelid.infer.engine import Engine, EngineConfig
from camelid.model import Llama4
from camelid.testing.tiny import tiny_model
from tiny_engines import engine, ids, request, run

CHUNK = 64
WISHES = {
    "greedy": {"temperature": 0.0},
    "hot": {"temperature": 1.0},
    "filtered": {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
    "punished": {"temperature": 1.0, "repetition_penalty": 1.3, "presence_penalty": 0.5},
    "held": {"temperature": 1.0, "constraint": Constraint("regex", "[a-z]{3,30}")},
    "probable": {"temperature": 1.0, "num_logprobs": 2},
    "stopped": {"temperature": 1.0, "stop": ("e",)},
}


def same_model(dtype: torch.dtype) -> Llama4:
    return tiny_model("scout", attention_chunk_size=CHUNK).to(dtype)


def other_model(dtype: torch.dtype) -> Llama4:
    return tiny_model("scout", seed=1, hidden_size=32, attention_chunk_size=CHUNK).to(dtype)


def with_draft(draft: Llama4, dtype: torch.dtype = torch.bfloat16, pages: int = 64) -> Engine:
    return engine("scout", dtype, pages=pages, chunk=CHUNK, draft=draft)


@pytest.mark.parametrize("make", [same_model, other_model])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_no_token_changes(make: Callable[[torch.dtype], Llama4], dtype: torch.dtype) -> None:
    """In a crowd, over the edges of chunks and pages, whatever the sampling."""
    many = [
        request(name, length, length, **({"max_tokens": 40} | wishes))
        for name, wishes, length in zip(WISHES, WISHES.values(), (3, 50, 64, 100, 10, 62, 130), strict=True)
    ]
    plain = run(engine("scout", dtype, chunk=CHUNK), *many)
    guessed = with_draft(make(dtype), dtype)
    for name, events in run(guessed, *many).items():
        assert ids(events) == ids(plain[name]), name
        assert [event.text for event in events] == [event.text for event in plain[name]]
        assert [event.usage for event in events] == [event.usage for event in plain[name]]
    assert guessed.stats.guessed_tokens > 100
    assert guessed.stats.pages_free == guessed.stats.pages_total


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_that_is_the_model_is_always_right(temperature: float) -> None:
    """With noise as well, since guesses are drawn with the sampler's own."""
    guessed = with_draft(same_model(torch.bfloat16))
    run(guessed, request("one", 20, temperature=temperature, max_tokens=30))
    assert guessed.stats.guessed_tokens == guessed.stats.accepted_tokens >= 20


def test_a_poor_draft_is_mostly_wrong() -> None:
    guessed = with_draft(other_model(torch.bfloat16))
    run(guessed, request("one", 20, temperature=1.0, max_tokens=40))
    assert guessed.stats.accepted_tokens < guessed.stats.guessed_tokens / 2


def test_preemption_and_shared_beginnings() -> None:
    both = [request(name, 60, 0, max_tokens=100) for name in ("first", "second")]
    alone = ids(run(engine("scout", chunk=CHUNK), both[0])["first"])
    poor = with_draft(same_model(torch.bfloat16), pages=4)
    for _ in range(2):
        assert all(ids(events) == alone for events in run(poor, *both).values())
    assert poor.stats.num_preempted and poor.stats.cached_prompt_tokens == 0 and poor.stats.accepted_tokens


def test_one_step_gives_several_tokens() -> None:
    guessed = with_draft(same_model(torch.bfloat16))
    guessed.add(request("one", 10, max_tokens=11))
    counts = []
    while guessed.has_work:
        counts.append(len(guessed.step()))
    assert counts == [1, 5, 5]


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        ({"vocab_size": 500}, "the draft has 500 tokens, the model 384"),
        ({"attention_chunk_size": 32}, "the draft has chunks of 32 tokens, the model of 64"),
    ],
)
def test_who_cannot_be_a_draft(draft: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_draft(tiny_model("scout", **({"attention_chunk_size": CHUNK} | draft)))


def test_the_configured_number_of_guesses() -> None:
    made = engine(
        "scout", chunk=CHUNK, draft=same_model(torch.bfloat16), config=EngineConfig(num_draft_tokens=2)
    )
    made.add(request("one", 10, max_tokens=7))
    counts = []
    while made.has_work:
        counts.append(len(made.step()))
    assert counts == [1, 3, 3]
