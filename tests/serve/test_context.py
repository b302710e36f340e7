"""The context that the server states is the context that it accepts: filled to its last token by a real engine."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from served import serving

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with serving() as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def stated(http: httpx.Client) -> int:
    (entry,) = http.get("/v1/models").json()["data"]
    return int(entry["max_context"])


@pytest.mark.parametrize("num_answer_tokens", [1, 40])
def test_a_prompt_and_its_answer_fill_it(http: httpx.Client, stated: int, num_answer_tokens: int) -> None:
    """An answer that may be longer ends where the context does, and says so."""
    prompt = [65 + number % 26 for number in range(stated - num_answer_tokens)]
    for max_tokens in (num_answer_tokens, 10 * stated):
        body = {"model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        answer = http.post(TEXT, json=body).json()
        assert answer["usage"]["total_tokens"] == stated
        assert answer["usage"]["completion_tokens"] == num_answer_tokens
        assert answer["choices"][0]["finish_reason"] == "length"


def test_a_conversation_fills_it(http: httpx.Client, stated: int) -> None:
    def ask(num_letters: int) -> httpx.Response:
        messages = [{"role": "user", "content": "x" * num_letters}]
        return http.post(CHAT, json={"model": "tiny", "messages": messages})

    frame = ask(1).json()["usage"]["prompt_tokens"] - 1  # a letter is a token here
    full = ask(stated - frame - 1).json()
    assert full["usage"]["prompt_tokens"] == stated - 1 and full["usage"]["total_tokens"] == stated
    over = ask(stated - frame)
    assert over.status_code == 400 and over.json()["error"]["code"] == "context_length_exceeded"
    assert f"the prompt has {stated:,} tokens, the context is {stated:,}" in over.json()["error"]["message"]


@pytest.mark.parametrize("beyond", [0, 1, 5000])
def test_one_token_more_is_refused_with_both_numbers(http: httpx.Client, stated: int, beyond: int) -> None:
    body = {"model": "tiny", "prompt": [65] * (stated + beyond), "max_tokens": 1}
    for is_stream in (False, True):
        refused = http.post(TEXT, json=body | {"stream": is_stream})
        message = refused.json()["error"]["message"]
        assert refused.status_code == 400
        assert f"the prompt has {stated + beyond:,} tokens, the context is {stated:,}" in message
