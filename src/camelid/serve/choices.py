"""The choices of one request, running side by side, as deltas for the wire."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from camelid.core import FinishReason, ModelInput, SamplingParams, ToolCall, Usage
from camelid.core.errors import ConstraintError, InputError
from camelid.infer.async_engine import ReaderTooSlow
from camelid.infer.request import QueueFull, Request, TokenEvent
from camelid.inputs import AnyTokenizer, ToolCallParser
from camelid.serve.api_error import ApiError, context_error, input_error, queue_full
from camelid.serve.half_characters import check_characters
from camelid.serve.served_model import ServedModel

__all__ = [
    "Choice",
    "Delta",
    "call_json",
    "experts_json",
    "logprob_json",
    "new_id",
    "run_choices",
    "usage_json",
]


@dataclass(frozen=True)
class Delta:
    """What one event adds to one choice."""

    index: int
    text: str
    event: TokenEvent
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None


class Choice:
    """Turns events into deltas; where tools were offered, their calls are taken out of the text."""

    def __init__(self, index: int, is_parsing: bool) -> None:
        self._index, self._parser = index, ToolCallParser() if is_parsing else None

    def feed(self, event: TokenEvent) -> Delta:
        text = event.text
        calls: tuple[ToolCall, ...] = ()
        reason: FinishReason | str | None = event.finish_reason
        if self._parser is not None:
            text = self._parser.feed(text)
            if reason is not None:
                reply = self._parser.finish()
                text, calls = text + reply.text, reply.calls
                reason = "tool_calls" if calls else reason
        return Delta(self._index, text, event, calls, reason, event.usage)


async def run_choices(
    model: ServedModel,
    prompts: Sequence[ModelInput],
    sampling: SamplingParams,
    n: int,
    *,
    is_parsing: bool = False,
    wants_experts: bool = False,
    constraint_param: str | None = None,
) -> AsyncGenerator[Delta]:
    """Pieces of all choices as they come: n for each prompt. Closing it cancels all.

    Raises ApiError before the first delta for what the engine refuses. A constraint that turns out later to allow
    nothing ends all choices with one too.
    """
    for prompt in prompts:
        if not 0 < len(prompt) < model.engine.max_context:
            raise context_error(len(prompt), model.engine.max_context)
    requests = [
        # Each choice has a seed of its own, and the first the one that was asked for.
        Request(
            new_id("req"),
            prompts[index // n],
            replace(sampling, seed=(sampling.seed + index % n) % 2**63),
            wants_experts=wants_experts,
        )
        for index in range(n * len(prompts))
    ]
    choices = {request.id: Choice(index, is_parsing) for index, request in enumerate(requests)}
    try:
        async with aclosing(model.engine.stream(*requests)) as events:
            async for event in events:
                if event.error is not None:
                    raise ConstraintError(event.error)
                yield choices[event.request_id].feed(event)
    except Exception as error:
        raise _refusal(error, constraint_param) from error


def _refusal(error: Exception, constraint_param: str | None) -> Exception:
    if isinstance(error, ConstraintError):
        return ApiError(400, str(error), param=constraint_param, code="invalid_constraint")
    if isinstance(error, InputError):
        return input_error(error, "messages")
    if isinstance(error, QueueFull):
        return queue_full(str(error))
    if isinstance(error, ReaderTooSlow):
        return ApiError(408, f"the answer is read too slowly: {error}", code="read_too_slowly")
    return ApiError(503, "the engine has stopped", code="engine_stopped")


def new_id(kind: str) -> str:
    """An id that nobody can guess."""
    return f"{kind}-{secrets.token_hex(12)}"


def usage_json(usages: Sequence[Usage], num_prompts: int, n: int) -> dict[str, Any]:
    """A prompt counts once, however many answers it has."""
    prompt = sum(usages[index * n].prompt_tokens for index in range(num_prompts))
    cached = sum(usages[index * n].cached_tokens for index in range(num_prompts))
    completion = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _is_text(text: str) -> bool:
    try:
        check_characters(text)
    except ValueError:
        return False
    return True


def call_json(call: ToolCall) -> dict[str, Any]:
    """A call with an id of its own; arguments are JSON in a string."""
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    if not _is_text(arguments):  # a model, too, can spell half a character
        arguments = json.dumps(dict(call.arguments))
    return {"id": new_id("call"), "type": "function", "function": {"name": call.name, "arguments": arguments}}


def experts_json(event: TokenEvent, tokenizer: AnyTokenizer) -> list[list[list[int]]]:
    """One token's entry in `experts`: those chosen per layer. None if not asked for, or for the stop token."""
    if not event.experts or event.token_id in tokenizer.stop_ids:
        return []
    return [[list(chosen) for chosen in event.experts]]


def logprob_json(event: TokenEvent, tokenizer: AnyTokenizer) -> dict[str, Any] | None:
    """One token's entry in `logprobs.content`; None if it was not asked for, or is the stop token."""
    if event.logprob is None or event.token_id in tokenizer.stop_ids:
        return None

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.decode_bytes([token_id])
        return {
            "token": data.decode("utf-8", "replace"),
            "logprob": max(logprob, -9999.0),
            "bytes": list(data),
        }

    own = entry(event.logprob.token_id, event.logprob.logprob)
    return own | {"top_logprobs": [entry(other.token_id, other.logprob) for other in event.alternatives]}
