"""Our side of the engine's races: requests with random prompts through `Engine`, sampling and text included."""

from __future__ import annotations

from itertools import count, product
from typing import Any

import torch

from camelid.core import ModelInput, SamplingParams
from camelid.infer.cache_plan import plan_cache
from camelid.infer.engine import Engine, EngineConfig
from camelid.infer.request import Request
from camelid.inputs import Tokenizer
from camelid.model import Llama4
from camelid.quantize import Precision

__all__ = ["make_engine", "new_request", "random_prompt", "vocabulary"]

_NAMES = count()


def make_engine(
    model: Llama4, *, weight_bits: int | None = None, context: int = 4096, num_sequences: int = 1
) -> Engine:
    """An engine with room for so many sequences of so many tokens."""
    text = model.config.text
    plan = plan_cache(text, 4_000_000_000, max_context=context, max_running=num_sequences)
    config = EngineConfig(max_running=num_sequences, precision=Precision(weight_bits))  # type: ignore[arg-type]
    return Engine(model, vocabulary(text.vocab_size), plan, config)


def new_request(prompt: list[int], max_tokens: int, **sampling: Any) -> Request:
    """Greedy, under a name of its own."""
    params = SamplingParams(max_tokens=max_tokens, **sampling)
    return Request(f"race-{next(_NAMES)}", ModelInput.of_text(prompt), params)


def vocabulary(size: int) -> Tokenizer:
    """So many byte strings; nothing ends an answer."""
    special = 200
    pairs = (bytes(pair) for pair in product(range(256), repeat=2))
    strings = [bytes([value]) for value in range(256)] + [next(pairs) for _ in range(size - special - 256)]
    tokenizer = Tokenizer({string: rank for rank, string in enumerate(strings)}, special)
    tokenizer.stop_ids = ()
    return tokenizer


def random_prompt(length: int, seed: int, vocab_size: int) -> list[int]:
    """Token ids from a seed."""
    return torch.randint(0, vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
