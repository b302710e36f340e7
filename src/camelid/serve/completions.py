"""/v1/completions: text that goes on."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from camelid.core import ModelInput, Usage
from camelid.serve.api_error import ApiError
from camelid.serve.choices import Delta, logprob_json, new_id, run_choices, usage_json
from camelid.serve.from_wire import read_sampling
from camelid.serve.served_model import ServedModel
from camelid.serve.wire import CompletionRequest

__all__ = ["TextAnswer"]

DEFAULT_MAX_TOKENS = 16  # OpenAI's


class TextAnswer:
    """One request, of one prompt or several."""

    is_typed = False

    def __init__(self, model: ServedModel, request: CompletionRequest) -> None:
        self._model, self._request = model, request
        self._prompts = self._encode()
        max_tokens = request.max_tokens or DEFAULT_MAX_TOKENS
        self._sampling = read_sampling(request, max_tokens, request.logprobs, model.vocab_size)
        self._frame = {
            "id": new_id("cmpl"), "object": "text_completion", "created": int(time.time()), "model": model.name
        }  # fmt: skip

    def _encode(self) -> list[ModelInput]:
        prompt = self._request.prompt
        prompts = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
        encode, inputs = self._model.chat_format.tokenizer.encode, []
        for one in prompts:
            ids = encode(one) if isinstance(one, str) else list(one)
            if wrong := [token_id for token_id in ids if token_id >= self._model.vocab_size]:
                raise ApiError(
                    400, f"prompt: {wrong[0]} is no token id below {self._model.vocab_size}", param="prompt"
                )
            inputs.append(ModelInput.of_text(ids))
        return inputs

    def deltas(self) -> AsyncGenerator[Delta]:
        """Starts it."""
        return run_choices(self._model, self._prompts, self._sampling, self._request.n)

    async def whole(self, deltas: AsyncGenerator[Delta]) -> dict[str, Any]:
        """`text_completion`"""
        count = len(self._prompts) * self._request.n
        texts, reasons, usages = [""] * count, [""] * count, [Usage(0, 0)] * count
        logprobs = [_Logprobs() for _ in range(count)]
        async for delta in deltas:
            if entry := logprob_json(delta.event, self._model.chat_format.tokenizer):
                logprobs[delta.index].add(entry)
            texts[delta.index] += delta.text
            if delta.finish_reason is not None and delta.usage is not None:
                reasons[delta.index], usages[delta.index] = delta.finish_reason, delta.usage
        choices = [
            {
                "index": index,
                "text": texts[index],
                "logprobs": None if self._request.logprobs is None else logprobs[index].json(),
                "finish_reason": reasons[index],
            }
            for index in range(count)
        ]
        return {**self._frame, "choices": choices, "usage": self._usage(usages)}

    async def chunks(self, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[dict[str, Any]]:
        """The same in deltas."""
        options = self._request.stream_options
        usages = [Usage(0, 0)] * (len(self._prompts) * self._request.n)
        offsets = [_Logprobs() for _ in usages]
        async for delta in deltas:
            logprobs = None
            if entry := logprob_json(delta.event, self._model.chat_format.tokenizer):
                offsets[delta.index].add(entry)
                logprobs = offsets[delta.index].last_json()
            choice = {
                "index": delta.index, "text": delta.text, "logprobs": logprobs, "finish_reason": delta.finish_reason
            }  # fmt: skip
            if delta.finish_reason is not None and delta.usage is not None:
                usages[delta.index] = delta.usage
            yield {**self._frame, "choices": [choice]}
        if options is not None and options.include_usage:
            yield {**self._frame, "choices": [], "usage": self._usage(usages)}

    def _usage(self, usages: list[Usage]) -> dict[str, Any]:
        return usage_json(usages, len(self._prompts), self._request.n)


class _Logprobs:
    """The columns that this endpoint has instead of entries."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {
            "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []
        }  # fmt: skip
        self._offset = 0

    def add(self, entry: dict[str, Any]) -> None:
        columns = self._columns
        columns["tokens"].append(entry["token"])
        columns["token_logprobs"].append(entry["logprob"])
        columns["top_logprobs"].append({other["token"]: other["logprob"] for other in entry["top_logprobs"]})
        columns["text_offset"].append(self._offset)
        self._offset += len(entry["token"])

    def json(self) -> dict[str, list[Any]]:
        return self._columns

    def last_json(self) -> dict[str, list[Any]]:
        return {name: values[-1:] for name, values in self._columns.items()}
