"""`camelid serve`: a model behind OpenAI's wire format."""

from __future__ import annotations

import logging
import socket
import sys

import torch

from camelid.checkpoint import open_model
from camelid.checkpoint.hf_layout import weights_digest
from camelid.cli.commands import Serve
from camelid.core.errors import ConfigError
from camelid.infer import LLM, locate
from camelid.infer.async_engine import AsyncEngine
from camelid.infer.engine import EngineConfig
from camelid.ops.native import missing_because

__all__ = ["serve"]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
GRACE_SECONDS = 60  # for answers that have begun


def serve(options: Serve) -> int:
    """Loads, says what is served, and serves."""
    try:
        import uvicorn

        from camelid.serve import AllowedHost, Limits, ServedModel, create_app
    except ImportError as error:
        raise ConfigError(f"serving needs more packages: pip install 'camelid[serve]' ({error})") from error
    path = locate.choose_model(options.model)
    llm = LLM.load(
        path,
        DTYPES[options.dtype],
        announce=lambda plan: print(plan, file=sys.stderr),
        max_context=options.max_context,
        cache_bytes=None if options.cache_gb is None else int(options.cache_gb * 1e9),
        config=EngineConfig(max_running=options.max_running, max_waiting=options.max_waiting),
    )
    name = options.name or path.name
    if options.dtype == "bf16" and (reason := missing_because()):
        print(f"native kernels are missing, answers come slowly: {reason}", file=sys.stderr)
    print(f"{name}: {llm.engine.max_context:,} tokens of context, {options.dtype}", file=sys.stderr)

    async def load() -> ServedModel:
        return ServedModel(
            name=name,
            digest=weights_digest(open_model(path), path),
            quantisation=options.dtype,
            vocab_size=llm.config.text.vocab_size,
            chat_format=llm.chat_format,
            engine=AsyncEngine(llm.engine),
        )

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    limits = Limits(
        options.api_key,
        int(options.max_body_mb * 2**20),
        max_upload_bytes=int(options.max_upload_mb * 2**20),
        image_hosts=tuple(map(AllowedHost.parse, options.allow_image_host)),
        max_open=2 * (options.max_running + options.max_waiting),
        stall_seconds=options.stall_seconds,
    )
    config = uvicorn.Config(
        create_app(load, limits),
        host=options.host,
        port=options.port,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server, listener = uvicorn.Server(config), config.bind_socket()
    if sys.platform == "linux":
        # The kernel holds the end of a response for a client that takes nothing, for as long as it is there.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * options.stall_seconds))
    server.run(sockets=[listener])
    return 0 if server.started else 1
