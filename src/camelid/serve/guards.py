"""What stands before every route: how much is read, who may ask, and a line in the log for each answer."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camelid.serve.api_error import ApiError, error_response
from camelid.serve.metrics import Metrics

__all__ = ["AccessLog", "BodyLimit", "KeyCheck"]

LOG = logging.getLogger("camelid.serve")


class BodyLimit:
    """413 as soon as a body is known to be too large; what it says is not believed, what comes is counted."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self._max_bytes:
            return await self._refuse(scope, receive, send)
        num_bytes, is_over, has_started = 0, False, False

        async def counted() -> Message:
            nonlocal num_bytes, is_over
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                is_over = True
                return {"type": "http.disconnect"}
            return message

        async def watched(message: Message) -> None:
            nonlocal has_started
            if not is_over:
                has_started = True
                await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:
            if not is_over:
                raise
        if is_over and not has_started:
            await self._refuse(scope, receive, send)
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = ApiError(413, f"the body has more than {self._max_bytes:,} bytes", code="body_too_large")
        await error_response(error)(scope, receive, send)


class KeyCheck:
    """401 below /v1/ without one of the keys. No keys: everybody may ask."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app, self._keys = app, [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_guarded = scope["type"] == "http" and scope["path"].startswith("/v1/") and self._keys
        if is_guarded and not self._is_known(dict(scope["headers"]).get(b"authorization", b"")):
            error = ApiError(
                401, "no valid API key was given: Authorization: Bearer KEY", code="invalid_api_key"
            )
            return await error_response(error)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _is_known(self, header: bytes) -> bool:
        scheme, _, key = header.partition(b" ")
        # All are compared, each in constant time: how long it takes tells nothing about a key.
        matches = [hmac.compare_digest(key, known) for known in self._keys]
        return scheme.lower() == b"bearer" and any(matches)


class AccessLog:
    """One JSON line per answer, without what was asked and said; counts for /metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 499  # the client left before there was an answer

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, str(status)).inc()
            line = {"event": "request", "method": scope["method"], "route": route, "status": status}
            LOG.info(json.dumps(line | {"seconds": round(seconds, 4)}))
