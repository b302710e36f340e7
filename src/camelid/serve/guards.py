"""What stands before every route: how much is read, who may ask, and a line in the log for each answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Mapping, Sequence
from traceback import extract_tb

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camelid.serve.api_error import ApiError, error_response, queue_full
from camelid.serve.metrics import Metrics

__all__ = ["AccessLog", "BodyLimit", "KeyCheck"]

LINGER_BYTES, LINGER_SECONDS = 64 * 2**20, 10.0

LOG = logging.getLogger("camelid.serve")


class BodyLimit:
    """413 as soon as a body is known to be too large; what it says is not believed, what comes is counted.

    All bodies that are being answered count together against `max_total_bytes`, beyond which there is a 429. Bodies of
    `streamed` routes go to disk piece by piece: those have a limit of their own and no share in the total.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        max_total_bytes: int = 2**30,
        streamed: Mapping[str, int] | None = None,
        pause_seconds: float = 60.0,
    ) -> None:
        self._app, self._max_bytes, self._max_total, self._held = app, max_bytes, max_total_bytes, 0
        self._streamed, self._pause_seconds = dict(streamed or {}), pause_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_streamed = scope["path"] in self._streamed
        max_bytes = self._streamed.get(scope["path"], self._max_bytes)
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > max_bytes:
            await _linger(receive)
            return await error_response(_too_large(max_bytes))(scope, receive, send)
        num_bytes, has_started, has_more, refusal = 0, False, True, None

        async def counted() -> Message:
            nonlocal num_bytes, has_more, refusal
            try:
                async with asyncio.timeout(self._pause_seconds if has_more else None):
                    message = await receive()
            except TimeoutError:
                refusal = ApiError(408, f"no more of the body came for {self._pause_seconds:g} seconds")
                return {"type": "http.disconnect"}
            size, has_more = len(message.get("body", b"")), message.get("more_body", False)
            num_bytes += size
            self._held += 0 if is_streamed else size
            if num_bytes > max_bytes:
                refusal = _too_large(max_bytes)
            elif self._held > self._max_total:
                refusal = queue_full("the bodies of all open requests are too large together")
            return message if refusal is None else {"type": "http.disconnect"}

        async def watched(message: Message) -> None:
            nonlocal has_started
            if refusal is None:
                has_started = True
                await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:
            if refusal is None:
                raise
        finally:
            self._held -= 0 if is_streamed else num_bytes
        if refusal is not None and not has_started:
            if refusal.status == 413 and has_more:
                await _linger(receive)
            await error_response(refusal)(scope, receive, send)
        return None


async def _linger(receive: Receive) -> None:
    """Lets some more of a body come, and forgets it: who is cut off while sending never reads the answer."""
    num_bytes = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while num_bytes < LINGER_BYTES:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"the body has more than {max_bytes:,} bytes", code="body_too_large")


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
    """One JSON line per answer, without what was asked and said; counts for /metrics.

    A fault of ours ends here: of an exception only its kind and place are logged, for its message may quote a prompt.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status, has_started = (
            time.perf_counter(),
            499,
            False,
        )  # the client left before there was an answer

        async def noted(message: Message) -> None:
            nonlocal status, has_started
            if message["type"] == "http.response.start":
                status, has_started = message["status"], True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            LOG.error(json.dumps({"event": "fault", "kind": type(error).__name__, "place": _places(error)}))
            if not has_started:
                fault = ApiError(500, "a fault of ours; the log has more", code="internal_error")
                await error_response(fault)(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, str(status)).inc()
            line = {"event": "request", "method": scope["method"], "route": route, "status": status}
            LOG.info(json.dumps(line | {"seconds": round(seconds, 4)}))


def _places(error: BaseException) -> list[str]:
    """The calls that led there, the innermost last; those of the exceptions behind it before them."""
    behind = error.__cause__ or error.__context__
    own = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]
    return [*(_places(behind) if behind else ()), *own[-12:]]
