"""Answers sampled for learning from them: what was drawn, token by token, and how likely each token was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from camelid.core import FinishReason, ModelInput, SamplingParams
from camelid.infer.cache_plan import CachePlan
from camelid.infer.engine import Engine, EngineConfig
from camelid.infer.request import Request
from camelid.inputs import AnyTokenizer
from camelid.model import Llama4
from camelid.model.config import LayerType
from camelid.ops.native import PAGE_SIZE

__all__ = ["Rollout", "sample"]

MAX_RUNNING = 256
STEP_TOKENS = 8192


@dataclass(frozen=True)
class Rollout:
    """One answer: its ids, the stop token included if there was one; ln p of each as the model gave it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason


def sample(
    model: Llama4,
    tokenizer: AnyTokenizer,
    prompts: Sequence[ModelInput],
    seeds: Sequence[int],
    *,
    max_tokens: int,
    temperature: float = 1.0,
    on_answer: Callable[[], None] | None = None,
) -> list[Rollout]:
    """An answer to each prompt by the engine, over the live weights of `model`, many at a time.

    Each has a seed of its own. The engine is new, so nothing that older weights computed is taken over; in fp32 the
    model stays whole and can be trained further. Equal prompts next to each other are seen once if they are one object.
    """
    assert model.language_model.head_weight.dtype == torch.float32, (
        "other dtypes may be packed, and learn no more"
    )
    longest = max(map(len, prompts)) + max_tokens
    num_running = min(MAX_RUNNING, len(prompts))
    chunk = model.config.text.attention_chunk_size
    num_pages: dict[LayerType, int] = {
        "chunked": num_running * (-(-min(longest, chunk) // PAGE_SIZE) + 1),
        "global": num_running * (-(-longest // PAGE_SIZE) + 1),
    }
    present = set(model.config.text.layer_types)
    plan = CachePlan(
        {kind: count if kind in present else 0 for kind, count in num_pages.items()},
        longest + 1,
        0,
        torch.float32,
    )
    config = EngineConfig(max_running=num_running, max_waiting=len(prompts), step_tokens=STEP_TOKENS)
    engine = Engine(model, tokenizer, plan, config)
    for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed, num_logprobs=0)
        engine.add(Request(str(number), prompt, sampling))
    ids, logprobs = [list[int]() for _ in prompts], [list[float]() for _ in prompts]
    texts, reasons = [""] * len(prompts), dict[int, FinishReason]()
    while engine.has_work:
        for event in engine.step():
            number = int(event.request_id)
            assert event.logprob is not None
            ids[number].append(event.token_id)
            logprobs[number].append(event.logprob.logprob)
            texts[number] += event.text
            if event.finish_reason is not None:
                reasons[number] = event.finish_reason
                if on_answer is not None:
                    on_answer()
    return [
        Rollout(tuple(ids[number]), tuple(logprobs[number]), texts[number], reasons[number])
        for number in range(len(prompts))
    ]
