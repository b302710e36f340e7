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

        async def patient(message: Message) -> None:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await send(message)
            except TimeoutError as error:
                raise _Stalled from error

        self._num_open += 1
        self._metrics.open_requests.inc()
        try:
            await self._app(scope, receive, patient)
        except _Stalled:
            self._metrics.stalled.inc()
        finally:
            self._num_open -= 1
            self._metrics.open_requests.dec()
        return None
