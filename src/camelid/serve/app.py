"""The routes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from camelid.serve.answers import ChatCompletion, Health, ModelEntry, ModelList, TextCompletion, documented
from camelid.serve.api_error import ApiError, error_response, validation_error
from camelid.serve.chat import ChatAnswer
from camelid.serve.choices import Delta
from camelid.serve.completions import TextAnswer
from camelid.serve.encoding import Encoders
from camelid.serve.guards import AccessLog, BodyLimit, KeyCheck
from camelid.serve.metrics import Metrics
from camelid.serve.served_model import ServedModel
from camelid.serve.wire import ChatRequest, CompletionRequest

__all__ = ["Limits", "create_app"]

HUNG_UP = 499  # nobody reads it
GENERATES = documented(400, 401, 404, 413, 429, 503, is_streamed=True)


@dataclass(frozen=True)
class Limits:
    """Who may ask, and how much. No keys: everybody."""

    api_keys: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 2**20


def create_app(load: Callable[[], Coroutine[Any, Any, ServedModel]], limits: Limits = Limits()) -> FastAPI:
    """The application. `load` is awaited in its event loop, once, before the first request."""
    models: list[ServedModel] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        models.append(await load())
        app.state.metrics.engine = models[0].engine
        try:
            yield
        finally:
            await models.pop().engine.close()

    app = FastAPI(title="Camelid", version="1", lifespan=lifespan, redirect_slashes=False)
    app.state.metrics = metrics = Metrics()
    started, encoders = int(time.time()), Encoders()

    def served(name: str) -> ServedModel:
        if models[0].name != name:
            raise ApiError(
                404, f"the model {name!r} is not served here, but {models[0].name!r} is", param="model",
                code="model_not_found",
            )  # fmt: skip
        return models[0]

    def entry() -> dict[str, Any]:
        model = models[0]
        return {
            "id": model.name,
            "object": "model",
            "created": started,
            "owned_by": "camelid",
            "max_context": model.engine.max_context,
            "digest": model.digest,
            "quantisation": model.quantisation,
        }

    @app.get("/health", response_model=Health)
    async def health() -> dict[str, str]:
        """Whether requests are taken."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        """For Prometheus."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", response_model=ModelList, responses=documented(401))
    async def list_models() -> dict[str, Any]:
        """The one that is served, the context that it accepts, and its digest."""
        return {"object": "list", "data": [entry()]}

    @app.get("/v1/models/{name:path}", response_model=ModelEntry, responses=documented(400, 401, 404))
    async def show_model(name: str) -> dict[str, Any]:
        """The same by its name."""
        served(name)
        return entry()

    @app.post("/v1/chat/completions", response_model=ChatCompletion, responses=GENERATES)
    async def chat(body: ChatRequest, http: Request) -> Response:
        """The next message of a conversation."""
        model = served(body.model)
        return await answer(
            body.stream,
            await encoders.run(partial(ChatAnswer, model, body), is_heavy=body.has_media),
            http,
        )

    @app.post("/v1/completions", response_model=TextCompletion, responses=GENERATES)
    async def complete(body: CompletionRequest, http: Request) -> Response:
        """Text that goes on."""
        model = served(body.model)
        return await answer(
            body.stream, await encoders.run(partial(TextAnswer, model, body), is_heavy=False), http
        )

    async def answer(is_stream: bool, one: ChatAnswer | TextAnswer, http: Request) -> Response:
        deltas = metrics.timed(one.deltas())
        if not is_stream:
            return await unless_hung_up(http, whole(one, deltas))
        # The first delta comes before the status, so that a refusal still has its own.
        first = await anext(deltas)
        return EventStream(events(one, first, deltas))

    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def refuse_fields(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(validation_error(error.errors()))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return error_response(ApiError(error.status_code, message, headers=error.headers))

    @app.exception_handler(Exception)
    async def confess(_: Request, error: Exception) -> JSONResponse:
        return error_response(ApiError(500, "a fault of ours; the log has more", code="internal_error"))

    app.add_middleware(KeyCheck, keys=limits.api_keys)
    app.add_middleware(BodyLimit, max_bytes=limits.max_body_bytes)
    app.add_middleware(AccessLog, metrics=metrics)
    return app


class EventStream(StreamingResponse):
    """Closes its generator however it ends: a client that leaves must not wait for the garbage collector."""

    def __init__(self, chunks: AsyncGenerator[str]) -> None:
        super().__init__(chunks, media_type="text/event-stream")
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()


async def whole(one: ChatAnswer | TextAnswer, deltas: AsyncGenerator[Delta]) -> Response:
    """All of it as JSON."""
    async with aclosing(deltas):
        return JSONResponse(await one.whole(deltas))


async def events(
    one: ChatAnswer | TextAnswer, first: Delta, rest: AsyncGenerator[Delta]
) -> AsyncGenerator[str]:
    """Server-sent events; what goes wrong in the middle is an event too."""

    async def all_deltas() -> AsyncGenerator[Delta]:
        yield first
        async for delta in rest:
            yield delta

    async with aclosing(rest):
        try:
            async for chunk in one.chunks(all_deltas()):
                yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
        except ApiError as error:
            yield f"data: {bytes(error_response(error).body).decode()}\n\n"
        yield "data: [DONE]\n\n"


async def unless_hung_up(http: Request, working: Coroutine[Any, Any, Response]) -> Response:
    """The answer, unless the client leaves first; then the work ends at once."""

    async def left() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    work, leaving = asyncio.create_task(working), asyncio.create_task(left())
    try:
        await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else Response(status_code=HUNG_UP)
    finally:
        for task in (work, leaving):
            task.cancel()
        await asyncio.gather(work, leaving, return_exceptions=True)
