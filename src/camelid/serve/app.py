"""The routes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from camelid.serve.admission import Admission
from camelid.serve.answers import (
    ChatCompletion,
    Health,
    ModelEntry,
    ModelList,
    ResponseBody,
    TextCompletion,
    documented,
)
from camelid.serve.api_error import ApiError, error_response, validation_error
from camelid.serve.chat import ChatAnswer
from camelid.serve.completions import TextAnswer
from camelid.serve.delivery import deliver
from camelid.serve.encoding import Encoders
from camelid.serve.file_routes import file_routes
from camelid.serve.file_store import FileStore, owner_of
from camelid.serve.guards import AccessLog, BodyLimit, KeyCheck
from camelid.serve.media import MediaSources
from camelid.serve.metrics import Metrics
from camelid.serve.remote_pictures import AllowedHost, RemotePictures
from camelid.serve.responses import ResponsesAnswer
from camelid.serve.responses_wire import ResponsesRequest, as_chat
from camelid.serve.served_model import ServedModel
from camelid.serve.web_page import page_routes
from camelid.serve.wire import ChatRequest, CompletionRequest

__all__ = ["Limits", "create_app"]

GENERATES = documented(400, 401, 404, 408, 413, 429, 503, is_streamed=True)


@dataclass(frozen=True)
class Limits:
    """Who may ask, and how much. No keys: everybody."""

    api_keys: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 2**20
    max_upload_bytes: int = 128 * 2**20
    max_stored_bytes: int = 2**30  # all uploads together
    stored_seconds: int = 3600  # after which an upload goes
    image_hosts: tuple[AllowedHost, ...] = ()  # that are asked for pictures
    fetch_seconds: float = 15.0  # in which a picture must be there
    max_open: int = 400  # requests without a whole answer
    stall_seconds: float = 60.0  # for which a client may read nothing


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
            files.close()

    app = FastAPI(
        title="Camelid", version="1", lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None
    )
    app.state.metrics = metrics = Metrics()
    started, encoders = int(time.time()), Encoders()
    files = FileStore(limits.max_stored_bytes, limits.stored_seconds)
    remote = RemotePictures(
        limits.image_hosts, max_bytes=limits.max_body_bytes, timeout_seconds=limits.fetch_seconds
    )
    media_sources = MediaSources(remote if limits.image_hosts else None, files, limits.max_body_bytes)

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
            "num_layers": model.num_layers,
            "num_experts": model.num_experts,
            "input_modalities": ["text", "image", "video"] if model.sees else ["text"],
            "max_body_bytes": limits.max_body_bytes,
        }

    @app.get("/health", response_model=Health, responses=documented(503))
    async def health() -> dict[str, str]:
        """Whether requests are taken."""
        if models[0].engine.stopped_because:
            raise ApiError(503, "the engine has stopped", code="engine_stopped")
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
        media = await media_sources.collect(body.messages, owner_of(http.headers.get("authorization")))
        answer = await encoders.run(partial(ChatAnswer, model, body, media), is_heavy=body.has_media)
        return await deliver(answer, metrics.timed(answer.deltas()), http, is_stream=body.stream)

    @app.post("/v1/responses", response_model=ResponseBody, responses=GENERATES)
    async def respond(body: ResponsesRequest, http: Request) -> Response:
        """The same as /v1/chat/completions in the newer format. Nothing is stored."""
        model, chat = served(body.model), as_chat(body)
        media = await media_sources.collect(chat.messages, owner_of(http.headers.get("authorization")))
        answer = await encoders.run(
            partial(ResponsesAnswer, model, body, chat, media), is_heavy=chat.has_media
        )
        return await deliver(answer, metrics.timed(answer.deltas()), http, is_stream=bool(body.stream))

    @app.post("/v1/completions", response_model=TextCompletion, responses=GENERATES)
    async def complete(body: CompletionRequest, http: Request) -> Response:
        """Text that goes on."""
        model = served(body.model)
        answer = await encoders.run(partial(TextAnswer, model, body), is_heavy=False)
        return await deliver(answer, metrics.timed(answer.deltas()), http, is_stream=body.stream)

    app.include_router(file_routes(files, limits.max_upload_bytes))

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

    app.include_router(page_routes())
    app.add_middleware(
        Admission, metrics=metrics, max_open=limits.max_open, stall_seconds=limits.stall_seconds
    )
    app.add_middleware(KeyCheck, keys=limits.api_keys)
    app.add_middleware(
        BodyLimit, max_bytes=limits.max_body_bytes, streamed={"/v1/files": limits.max_upload_bytes}
    )
    app.add_middleware(AccessLog, metrics=metrics)
    return app
