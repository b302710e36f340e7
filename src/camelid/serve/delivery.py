"""Answers on their way to the client: whole, or as server-sent events; ended as soon as the client is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from camelid.serve.api_error import ApiError, error_response
from camelid.serve.choices import Delta

__all__ = ["Answer", "deliver"]

HUNG_UP = 499  # nobody reads it
ENCODE = json.JSONEncoder(ensure_ascii=False).encode
T = TypeVar("T")


class Answer(Protocol):
    """One request that has been encoded."""

    is_typed: bool  # events have names, and no [DONE] after the last

    async def whole(self, deltas: AsyncGenerator[Delta]) -> dict[str, Any]:
        """All of it."""

    def chunks(self, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[dict[str, Any]]:
        """The data of its events."""


async def deliver(
    answer: Answer, deltas: AsyncGenerator[Delta], http: Request, *, is_stream: bool
) -> Response:
    """The response. Raises ApiError where the engine refuses."""
    if not is_stream:
        body = await _unless_hung_up(http, _whole(answer, deltas))
        return Response(status_code=HUNG_UP) if body is None else JSONResponse(body)
    # The first delta comes before the status, so that a refusal still has its own.
    first = await _unless_hung_up(http, _first(deltas))
    if first is None:
        await deltas.aclose()
        return Response(status_code=HUNG_UP)
    return _EventStream(_events(answer, first, deltas))


class _EventStream(StreamingResponse):
    """Closes its generator however it ends: a client that leaves must not wait for the garbage collector."""

    def __init__(self, chunks: AsyncGenerator[str]) -> None:
        super().__init__(chunks, media_type="text/event-stream")
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()


async def _first(deltas: AsyncGenerator[Delta]) -> Delta:
    return await anext(deltas)


async def _whole(answer: Answer, deltas: AsyncGenerator[Delta]) -> dict[str, Any]:
    async with aclosing(deltas):
        return await answer.whole(deltas)


async def _events(answer: Answer, first: Delta, rest: AsyncGenerator[Delta]) -> AsyncGenerator[str]:
    """Those that come together go out together. What goes wrong in the middle is an event too."""
    is_followed = first.event.is_followed

    async def all_deltas() -> AsyncGenerator[Delta]:
        nonlocal is_followed
        yield first
        async for delta in rest:
            is_followed = delta.event.is_followed
            yield delta

    text = ""
    async with aclosing(rest):
        try:
            async for chunk in answer.chunks(all_deltas()):
                name = f"event: {chunk['type']}\n" if answer.is_typed else ""
                text += f"{name}data: {ENCODE(chunk)}\n\n"
                if not is_followed:
                    yield text
                    text = ""
        except ApiError as error:
            if answer.is_typed:
                data = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
                text += f"event: error\ndata: {json.dumps(data)}\n\n"
            else:
                text += f"data: {bytes(error_response(error).body).decode()}\n\n"
        if not answer.is_typed:
            text += "data: [DONE]\n\n"
        if text:
            yield text


async def _unless_hung_up(http: Request, working: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives, or None if the client leaves first; then the work ends at once."""

    async def left() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    work, leaving = asyncio.create_task(working), asyncio.create_task(left())
    try:
        await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        for task in (work, leaving):
            task.cancel()
        await asyncio.gather(work, leaving, return_exceptions=True)
