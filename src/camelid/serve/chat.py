"""/v1/chat/completions"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from camelid.core import ModelInput, SamplingParams, Usage
from camelid.core.errors import CamelidError, InputError
from camelid.inputs import ChatFormat
from camelid.serve.api_error import ApiError, input_error
from camelid.serve.choices import (
    Delta,
    call_json,
    experts_json,
    logprob_json,
    new_id,
    run_choices,
    usage_json,
)
from camelid.serve.from_wire import read_constraint, read_messages, read_sampling, read_tools
from camelid.serve.media import Media
from camelid.serve.served_model import ServedModel
from camelid.serve.wire import ChatRequest

__all__ = ["ChatAnswer"]


class ChatAnswer:
    """One request on its way to an answer, whole or streamed. Encoding may take long: make it in a thread."""

    is_typed = False

    def __init__(self, model: ServedModel, request: ChatRequest, media: Media) -> None:
        self._model, self._request, self._media = model, request, media
        self._is_parsing = bool(request.tools) and request.tool_choice != "none"
        self._constraint, self._constraint_param = read_constraint(request)
        self._prompt = self._encode()
        self._sampling = self._read_sampling()
        self._frame = {"id": new_id("chatcmpl"), "created": int(time.time()), "model": model.name}

    def _encode(self) -> ModelInput:
        messages, chat_format = read_messages(self._request.messages, self._media), self._model.chat_format
        tools = read_tools(self._request.tools) if self._is_parsing else []
        try:
            if not tools:
                return chat_format.encode(messages, for_generation=True)
            if not isinstance(chat_format, ChatFormat):
                raise ApiError(400, f"{self._model.name} has no format for tools", param="tools")
            return chat_format.encode(messages, tools=tools, for_generation=True)
        except InputError as error:
            raise input_error(error, "messages") from error

    def _read_sampling(self) -> SamplingParams:
        request = self._request
        if request.top_logprobs is not None and not request.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs", param="top_logprobs")
        if request.max_tokens is not None and request.max_completion_tokens is not None:
            raise ApiError(
                400, "max_tokens is the old name of max_completion_tokens: one of them", param="max_tokens"
            )
        max_tokens = request.max_completion_tokens or request.max_tokens or self._model.engine.max_context
        num_logprobs = (request.top_logprobs or 0) if request.logprobs else None
        try:
            return read_sampling(request, max_tokens, num_logprobs, self._model.vocab_size, self._constraint)
        except CamelidError as error:
            raise ApiError(400, str(error)) from error

    def deltas(self) -> AsyncGenerator[Delta]:
        """Starts it."""
        return run_choices(
            self._model,
            [self._prompt],
            self._sampling,
            self._request.n,
            is_parsing=self._is_parsing,
            wants_experts=self._request.include_experts,
            constraint_param=self._constraint_param,
        )

    async def whole(self, deltas: AsyncGenerator[Delta]) -> dict[str, Any]:
        """`chat.completion`"""
        n = self._request.n
        texts, calls = [""] * n, [[] for _ in range(n)]  # type: list[str], list[list[dict[str, Any]]]
        logprobs: list[list[dict[str, Any]]] = [[] for _ in range(n)]
        experts: list[list[list[list[int]]]] = [[] for _ in range(n)]
        reasons: list[str | None] = [None] * n
        usages = [Usage(0, 0)] * n
        async for delta in deltas:
            texts[delta.index] += delta.text
            calls[delta.index] += map(call_json, delta.calls)
            if entry := logprob_json(delta.event, self._model.chat_format.tokenizer):
                logprobs[delta.index].append(entry)
            experts[delta.index] += experts_json(delta.event, self._model.chat_format.tokenizer)
            if delta.finish_reason is not None and delta.usage is not None:
                reasons[delta.index], usages[delta.index] = delta.finish_reason, delta.usage
        choices = []
        for index in range(n):
            message: dict[str, Any] = {"role": "assistant", "content": texts[index], "refusal": None}
            if calls[index]:
                message |= {"tool_calls": calls[index], "content": texts[index] or None}
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": {"content": logprobs[index]} if self._request.logprobs else None,
                    "finish_reason": reasons[index],
                }
                | ({"experts": experts[index]} if self._request.include_experts else {})
            )
        return {
            **self._frame,
            "object": "chat.completion",
            "choices": choices,
            "usage": usage_json(usages, 1, n),
        }

    async def chunks(self, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[dict[str, Any]]:
        """`chat.completion.chunk` after chunk; the first of each choice has the role."""
        options, n = self._request.stream_options, self._request.n
        is_counting = options is not None and options.include_usage
        started: set[int] = set()
        usages = [Usage(0, 0)] * n
        async for delta in deltas:
            if delta.index not in started:
                started.add(delta.index)
                yield self._chunk(delta.index, {"role": "assistant", "content": ""})
            entry = logprob_json(delta.event, self._model.chat_format.tokenizer)
            experts = experts_json(delta.event, self._model.chat_format.tokenizer)
            if delta.text or entry or experts:
                yield self._chunk(delta.index, {"content": delta.text}, entry, experts=experts)
            for place, call in enumerate(delta.calls):
                yield self._chunk(delta.index, {"tool_calls": [{"index": place} | call_json(call)]})
            if delta.finish_reason is not None and delta.usage is not None:
                usages[delta.index] = delta.usage
                yield self._chunk(delta.index, {}, finish_reason=delta.finish_reason)
        if is_counting:
            usage = usage_json(usages, 1, n)
            yield {**self._frame, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        entry: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        experts: list[list[list[int]]] | None = None,
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": index,
            "delta": delta,
            "logprobs": {"content": [entry]} if entry else None,
            "finish_reason": finish_reason,
        }
        if self._request.include_experts:
            choice["experts"] = experts or []
        return {**self._frame, "object": "chat.completion.chunk", "choices": [choice]}
