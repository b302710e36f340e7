"""Servers on a free port, in threads, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from camelid.infer.async_engine import AsyncEngine
from camelid.inputs import ChatFormat
from camelid.model import VisionConfig
from camelid.serve import Limits, ServedModel, create_app
from camelid.testing.scripted_engine import ScriptedEngine
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_model
from tiny_engines import engine, tokenizer

VOCAB_SIZE = 256 + NUM_SPECIAL_TOKENS


def chat_format(vision: VisionConfig | None = None) -> ChatFormat:
    return ChatFormat.for_model(tokenizer(), vision)


def stopping_format() -> ChatFormat:
    """With an end-of-turn token: what has to be whole must be able to end."""
    ends = tokenizer()
    ends.stop_ids = (ends.special("eot"),)
    return ChatFormat.for_model(ends, None)


def scripted(one: ScriptedEngine) -> ServedModel:
    return ServedModel("tiny", "d1935", "bf16", VOCAB_SIZE, chat_format(), one, num_layers=4, num_experts=4)


@contextmanager
def serving(
    model: ServedModel | Callable[[], Coroutine[Any, Any, ServedModel]] | None = None,
    limits: Limits | None = None,
    load: Callable[[], Coroutine[Any, Any, ServedModel]] | None = None,
) -> Iterator[str]:
    """The server's address. Without a model: a tiny one that sees, in a real engine."""

    async def default() -> ServedModel:
        if isinstance(model, ServedModel):
            return model
        if model is not None:
            return await model()
        seeing = chat_format(tiny_model(vision=True).config.vision)
        return ServedModel(
            "tiny",
            "d1935",
            "bf16",
            VOCAB_SIZE,
            seeing,
            AsyncEngine(engine(vision=True, pages=32)),
            num_layers=6,
            num_experts=4,
            sees=True,
        )

    config = uvicorn.Config(
        create_app(load or default, limits or Limits()), port=0, log_level="warning", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
