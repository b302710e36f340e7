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
from camelid.ops.quantization import Bits
from camelid.quantize import Precision

__all__ = ["serve"]

BITS: dict[str, Bits] = {"int8": 8, "int4": 4}
GRACE_SECONDS = 60  # for answers that have begun
SWITCH_SECONDS = 0.0002  # the engine gets the interpreter between two steps, not after HTTP is done with it


def serve(options: Serve) -> int:
    """Loads, says what is served, and serves."""
    try:
        import uvicorn

        from camelid.serve import AllowedHost, Limits, ServedModel, create_app
    except ImportError as error:
        raise ConfigError(f"serving needs more packages: pip install 'camelid[serve]' ({error})") from error
    path = locate.choose_model(options.model)
    precision = Precision(BITS.get(options.weights), 8 if options.kv else None)
    described = precision.describe(options.weights)
    llm = LLM.load(
        path,
        torch.float32 if options.weights == "fp32" else torch.bfloat16,
        announce=lambda plan: print(plan, file=sys.stderr),
        max_context=options.max_context,
        cache_bytes=None if options.cache_gb is None else int(options.cache_gb * 1e9),
        config=EngineConfig(
            max_running=options.max_running,
            max_waiting=options.max_waiting,
            precision=precision,
            num_draft_tokens=options.draft_tokens,
        ),
        draft=options.draft,
    )
    name = options.name or path.name
    if options.weights != "fp32" and (reason := missing_because()):
        print(f"native kernels are missing, answers come slowly: {reason}", file=sys.stderr)
    print(f"{name}: {llm.engine.max_context:,} tokens of context, {described}", file=sys.stderr)

    text = llm.config.text

    async def load() -> ServedModel:
        return ServedModel(
            name=name,
            digest=weights_digest(open_model(path), path),
            quantisation=described,
            vocab_size=text.vocab_size,
            chat_format=llm.chat_format,
            engine=AsyncEngine(llm.engine),
            num_layers=text.num_hidden_layers,
            num_experts=text.num_local_experts if text.moe_layers else 0,
            sees=llm.config.vision is not None,
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
    sys.setswitchinterval(SWITCH_SECONDS)
    server.run(sockets=[listener])
    return 0 if server.started else 1
