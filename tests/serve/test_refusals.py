"""What a server must not take: by status, and by the name of the field."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from camelid.infer.request import QueueFull
from camelid.serve import Limits
from camelid.testing.scripted_engine import ScriptedEngine
from served import scripted, serving

CHAT = "/v1/chat/completions"
JSON = {"type": "json_object"}
TOOL = {"type": "function", "function": {"name": "f"}}
NO_OBJECT = {"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}
BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with serving(scripted(ScriptedEngine("hello"))) as address, httpx.Client(base_url=address) as client:
        yield client


def message(**fields: Any) -> dict[str, Any]:
    return BODY | {"messages": [{"role": "user", "content": "hi"} | fields]}


def picture(url: str) -> dict[str, Any]:
    return message(content=[{"type": "image_url", "image_url": {"url": url}}])


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (BODY | {"response_format": {"type": "grammar"}}, "response_format", "invalid_value"),
        (BODY | {"response_format": JSON | {"description": "x"}}, "response_format", "unknown_parameter"),
        (BODY | {"response_format": JSON, "tools": [TOOL]}, "response_format", None),
        (
            BODY | {"response_format": JSON, "tools": [TOOL], "tool_choice": "required"},
            "response_format",
            None,
        ),
        (BODY | {"tool_choice": "required"}, "tool_choice", None),
        (
            BODY | {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            None,
        ),
        (BODY | {"tools": [NO_OBJECT], "tool_choice": "required"}, "tools", "invalid_value"),
        (BODY | {"best_of": 2}, "best_of", "unknown_parameter"),
        (message(name="Eve"), "messages.0.name", "unknown_parameter"),
        (BODY | {"temperature": 3}, "temperature", "invalid_value"),
        (BODY | {"temperature": "1"}, "temperature", "invalid_value"),
        (BODY | {"n": 0}, "n", "invalid_value"),
        (BODY | {"max_tokens": 0}, "max_tokens", "invalid_value"),
        (BODY | {"top_logprobs": 2}, "top_logprobs", None),
        (BODY | {"max_tokens": 2, "max_completion_tokens": 2}, "max_tokens", None),
        (BODY | {"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
        (BODY | {"logit_bias": {"99999": 1}}, "logit_bias", None),
        (BODY | {"stop": [""]}, "stop", "invalid_value"),
        (BODY | {"messages": []}, "messages", "invalid_value"),
        ({"model": "tiny"}, "messages", "invalid_value"),
        (message(content=None), "messages.0.content", None),
        (message(role="tool"), "messages.0.tool_call_id", None),
        (message(content="x" * 2000), "messages", "context_length_exceeded"),
        (BODY | {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools", "invalid_value"),
        (picture("https://example.org/cat.png"), "messages.0.content.0.image_url.url", "invalid_url"),
        (picture("file:///etc/passwd"), "messages.0.content.0.image_url.url", "invalid_url"),
        (picture("data:image/png;base64,@@@"), "messages.0.content.0.image_url.url", "invalid_base64"),
        (picture("data:image/png;base64,aGVsbG8="), "messages", "invalid_value"),
    ],
)
def test_fields(http: httpx.Client, body: dict[str, Any], param: str, code: str | None) -> None:
    for is_stream in (False, True):
        response = http.post(CHAT, json=body | {"stream": is_stream})
        error = response.json()["error"]
        assert response.status_code == 400 and error["type"] == "invalid_request_error", error
        assert error["param"] is not None and error["param"].startswith(param) and error["code"] == code, (
            error
        )


def test_the_stated_context_is_the_accepted_one(http: httpx.Client) -> None:
    (entry,) = http.get("/v1/models").json()["data"]
    ids = [65] * (entry["max_context"] - 1)
    full = http.post("/v1/completions", json={"model": "tiny", "prompt": ids})
    assert full.status_code == 200 and full.json()["usage"]["prompt_tokens"] == len(ids)
    over = http.post("/v1/completions", json={"model": "tiny", "prompt": [*ids, 65]})
    assert over.json()["error"]["message"].startswith("the prompt has 1,000 tokens, the context is 1,000")
    unknown = http.post("/v1/completions", json={"model": "tiny", "prompt": [99999]})
    assert unknown.status_code == 400


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "nul", '{"model": NaN}', b"\xed\xa0\x80"])
def test_bodies_that_are_no_requests(http: httpx.Client, text: str | bytes) -> None:
    response = http.post(CHAT, content=text, headers={"content-type": "application/json"})
    assert response.status_code == 400 and response.json()["error"]["message"]


def test_routes(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    missing = http.post("/v1/embeddings", json={})
    assert missing.status_code == 404 and "/v1/embeddings" in missing.json()["error"]["message"]
    assert http.get(CHAT).status_code == 405
    assert http.post(CHAT, json=BODY | {"model": "gpt"}).json()["error"]["code"] == "model_not_found"


def test_keys() -> None:
    with serving(scripted(ScriptedEngine("hello")), Limits(api_keys=("one", "two"))) as address:
        for key, status in (("one", 200), ("two", 200), ("three", 401), ("öne", 401)):
            headers = {"authorization": f"Bearer {key}".encode()}
            response = httpx.post(f"{address}{CHAT}", json=BODY, headers=headers)
            assert response.status_code == status
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/health").status_code == 200


def test_large_bodies() -> None:
    """Whether or not the length is stated."""
    with serving(scripted(ScriptedEngine("hello")), Limits(max_body_bytes=1000)) as address:
        large = json.dumps(message(content="x" * 2000)).encode()
        for content in (large, iter([large[:900], large[900:]])):
            response = httpx.post(
                f"{address}{CHAT}", content=content, headers={"content-type": "application/json"}
            )
            assert response.status_code == 413 and "1,000 bytes" in response.json()["error"]["message"]
        assert httpx.post(f"{address}{CHAT}", json=BODY).status_code == 200


class FullEngine(ScriptedEngine):
    async def stream(self, request: Any) -> Any:
        raise QueueFull("256 requests are waiting")
        yield


def test_back_pressure() -> None:
    with serving(scripted(FullEngine("hello"))) as address:
        for is_stream in (False, True):
            response = httpx.post(f"{address}{CHAT}", json=BODY | {"stream": is_stream})
            assert response.status_code == 429 and int(response.headers["retry-after"]) > 0
            assert response.json()["error"]["code"] == "queue_full"


@pytest.mark.parametrize("is_stream", [False, True])
def test_hanging_up_cancels(is_stream: bool) -> None:
    endless = ScriptedEngine("hello ", is_endless=True, max_context=10**9)
    with serving(scripted(endless)) as address:
        with pytest.raises(httpx.ReadTimeout) if not is_stream else httpx.Client() as client:
            if is_stream:
                with client.stream(
                    "POST", f"{address}{CHAT}", json=BODY | {"stream": True, "n": 2}
                ) as response:
                    assert next(response.iter_lines()).startswith("data: {")
            else:
                httpx.post(f"{address}{CHAT}", json=BODY | {"n": 2}, timeout=0.5)
        deadline = time.monotonic() + 10
        while endless.num_running and time.monotonic() < deadline:
            time.sleep(0.01)
    assert endless.num_running == 0 and endless.num_cancelled == 2


def test_metrics_and_log(caplog: pytest.LogCaptureFixture) -> None:
    """Counts, and no word of what was said."""
    caplog.set_level(logging.INFO, logger="camelid.serve")
    with serving(scripted(ScriptedEngine("hello"))) as address:
        httpx.post(f"{address}{CHAT}", json=message(content="my secret"))
        httpx.post(f"{address}{CHAT}", json={})
        text = httpx.get(f"{address}/metrics").text
    assert f'camelid_http_requests_total{{route="{CHAT}",status="200"}} 1.0' in text
    assert f'camelid_http_requests_total{{route="{CHAT}",status="400"}} 1.0' in text
    assert "camelid_time_to_first_token_seconds_count 1.0" in text and "camelid_finished_total 1.0" in text
    lines = [json.loads(record.message) for record in caplog.records]
    assert [line["status"] for line in lines] == [200, 400, 200] and "secret" not in caplog.text
