"""What people ask and models answer is in no log, whatever happens to the request."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from camelid.infer.request import Request, TokenEvent
from camelid.testing.scripted_engine import ScriptedEngine
from served import scripted, serving

CHAT = "/v1/chat/completions"
SECRET = "xyzzy plugh"


class FaultyEngine(ScriptedEngine):
    """Quotes the prompt in an exception of a kind that nobody expects, at once or in the middle."""

    def __init__(self, num_good: int) -> None:
        super().__init__(SECRET)
        self._num_good = num_good

    async def stream(self, *requests: Request) -> AsyncGenerator[TokenEvent]:
        async for event in super().stream(*requests):
            if self._num_good == 0:
                raise KeyError(f"{SECRET} {event.text}")
            self._num_good -= 1
            yield event


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": SECRET}]} | fields


def test_no_log_has_what_was_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    part = [{"type": "image_url", "image_url": {"url": SECRET}}]
    wrong: list[Any] = [
        body(temperature=9), body(**{SECRET: 1}), body(model=SECRET), body(stop=[SECRET] * 99), body(user=5),
        body(messages=[{"role": "user", "content": part}]), body(messages=SECRET), SECRET,
    ]  # fmt: skip
    with serving(scripted(ScriptedEngine(SECRET))) as address:
        assert "plugh" in httpx.post(f"{address}{CHAT}", json=body()).text
        httpx.post(f"{address}{CHAT}", json=body(stream=True))
        for one in wrong:
            assert 400 <= httpx.post(f"{address}{CHAT}", json=one).status_code < 500
        httpx.post(f"{address}{CHAT}", content=json.dumps(body())[:-1])
        httpx.get(f"{address}/{SECRET}")
        httpx.post(f"{address}/v1/responses", json={"model": "tiny", "input": SECRET})
    assert len(caplog.records) > len(wrong)
    assert "plugh" not in said(caplog)


@pytest.mark.parametrize("num_good", [0, 3])
@pytest.mark.parametrize("is_stream", [False, True])
def test_neither_have_faults_of_ours(
    caplog: pytest.LogCaptureFixture, num_good: int, is_stream: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(scripted(FaultyEngine(num_good))) as address:
        response = httpx.post(f"{address}{CHAT}", json=body(stream=is_stream))
    assert '"server_error"' in response.text.replace(" ", "") and "plugh" not in response.text
    assert "plugh" not in said(caplog)


def test_a_fault_is_an_error_object_and_a_place_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr("camelid.serve.app.ChatAnswer", fail)
    with serving(scripted(ScriptedEngine("hello"))) as address:
        response = httpx.post(f"{address}{CHAT}", json=body())
        assert httpx.get(f"{address}/health").status_code == 200
    assert response.status_code == 500 and response.json()["error"]["type"] == "server_error"
    fault = next(line for line in map(json.loads, caplog.messages) if line["event"] == "fault")
    assert fault["kind"] == "KeyError" and fault["place"][-1].endswith(" fail")
    assert "plugh" not in said(caplog)


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All that was logged by the server's side, tracebacks included; the client logs for itself."""
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    formatter = logging.Formatter()
    return "\n".join(formatter.format(record) for record in ours)
