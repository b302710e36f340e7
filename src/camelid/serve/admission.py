"""How many requests are open at once, and for how long nobody reads an answer."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camelid.serve.api_error import error_response, queue_full
from camelid.serve.metrics import Metrics

__all__ = ["Admission"]


class _Stalled(Exception):
    """The client is there and takes nothing."""


class Admission:
    """Bounds what is kept for clients. The engine's queue does not: who reads slowly is there after it is done.

    `max_open` requests below /v1/ at once, one more gets 429. A write that a client has not taken after
    `stall_seconds` ends its request: what was generated for it is kept no longer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_open: int, stall_seconds: float) -> None:
        self._app, self._metrics = app, metrics
        self._max_open, self._stall_seconds, self._num_open = max_open, stall_seconds, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return await self._app(scope, receive, send)
        if self._num_open >= self._max_open:
            error = queue_full(f"{self._num_open} requests are open")
            return await error_response(error)(scope, receive, send)

        waiting = _Patience(self._stall_seconds)

        async def patient(message: Message) -> None:
            with waiting:
                await send(message)

        self._num_open += 1
        self._metrics.open_requests.inc()
        try:
            await self._app(scope, receive, patient)
        except _Stalled:
            self._metrics.stalled.inc()
        finally:
            waiting.end()
            self._num_open -= 1
            self._metrics.open_requests.dec()
        return None


class _Patience:
    """Turns a block that takes longer into _Stalled: as `asyncio.timeout`, with one timer for all blocks of a request.

    Tokens are many and stalls are few: a timer set and taken back for each write is a tenth of what a token costs.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._loop = seconds, asyncio.get_running_loop()
        self._began: float | None = None
        self._writer: asyncio.Task[object] | None = None
        self._has_cancelled = False
        self._timer = self._loop.call_later(seconds, self._look)

    def __enter__(self) -> None:
        self._began, self._writer = self._loop.time(), asyncio.current_task()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._began = None
        if self._has_cancelled and kind is asyncio.CancelledError:
            self._has_cancelled = False
            if self._writer is not None and self._writer.uncancel() == 0:
                raise _Stalled from error

    def end(self) -> None:
        """No more blocks."""
        self._timer.cancel()

    def _look(self) -> None:
        due = (self._began or self._loop.time()) + self._seconds
        if due <= self._loop.time() and self._writer is not None:
            self._has_cancelled = True
            self._writer.cancel()
        else:
            self._timer = self._loop.call_at(due, self._look)
