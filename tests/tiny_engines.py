"""Tiny engines and requests for tests."""

from __future__ import annotations

import torch

from camelid.core import ModelInput, SamplingParams
from camelid.infer.cache_plan import CachePlan
from camelid.infer.engine import Engine, EngineConfig
from camelid.infer.request import Request, TokenEvent
from camelid.inputs import Tokenizer
from camelid.model import Llama4
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, TinyKind, tiny_model


def tokenizer() -> Tokenizer:
    """Bytes, and no token that ends an answer: what tiny models say is endless."""
    made = Tokenizer({bytes([value]): value for value in range(256)}, NUM_SPECIAL_TOKENS)
    made.stop_ids = ()
    return made


def engine(
    kind: TinyKind = "scout",
    dtype: torch.dtype = torch.bfloat16,
    pages: int = 64,
    config: EngineConfig | None = None,
    vision: bool = False,
    chunk: int = 64,
    stop_ids: tuple[int, ...] = (),
    draft: Llama4 | None = None,
) -> Engine:
    model = tiny_model(kind, vision=vision, attention_chunk_size=chunk).to(dtype).eval()
    plan = CachePlan({"chunked": pages, "global": pages}, min(pages * 64, 10_000), 0, dtype)
    ends = tokenizer()
    ends.stop_ids = stop_ids
    return Engine(model, ends, plan, config or EngineConfig(), draft)


def request(name: str, length: int, seed: int = 0, *, priority: int = 0, **sampling: object) -> Request:
    """A prompt of random bytes, sampled hotly."""
    generator = torch.Generator().manual_seed(seed)
    prompt = ModelInput.of_text(torch.randint(0, 256, (length,), generator=generator))
    params = SamplingParams(**({"max_tokens": 12, "temperature": 1.0, "seed": seed} | sampling))  # type: ignore[arg-type]
    return Request(name, prompt, params, priority)


def run(engine: Engine, *requests: Request) -> dict[str, list[TokenEvent]]:
    events: dict[str, list[TokenEvent]] = {one.id: [] for one in requests}
    for one in requests:
        engine.add(one)
    while engine.has_work:
        for event in engine.step():
            events[event.request_id].append(event)
    return events


def ids(events: list[TokenEvent]) -> list[int]:
    return [event.token_id for event in events]
