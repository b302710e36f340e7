"""/v1/responses: a chat answer in the newer wire format, as items and typed events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from camelid.core import ToolCall, Usage
from camelid.serve.chat import ChatAnswer
from camelid.serve.choices import Delta, call_json, new_id
from camelid.serve.media import Media
from camelid.serve.responses_wire import ResponsesRequest
from camelid.serve.served_model import ServedModel
from camelid.serve.wire import ChatRequest

__all__ = ["ResponsesAnswer"]


class ResponsesAnswer:
    """What `ChatAnswer` says, said in items. `chat` is the request as `as_chat` reads it."""

    is_typed = True

    def __init__(
        self, model: ServedModel, request: ResponsesRequest, chat: ChatRequest, media: Media
    ) -> None:
        self._chat, self._request = ChatAnswer(model, chat, media), request
        self._response: dict[str, Any] = _frame(model, request)
        self._items: list[dict[str, Any]] = []
        self._sequence_number = -1

    def deltas(self) -> AsyncGenerator[Delta]:
        """Starts it."""
        return self._chat.deltas()

    async def whole(self, deltas: AsyncGenerator[Delta]) -> dict[str, Any]:
        """`response`"""
        async for _ in self.chunks(deltas):
            pass
        return self._response

    async def chunks(self, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[dict[str, Any]]:
        """Events in OpenAI's order; the last one has the whole response."""
        yield self._event("response.created", response=dict(self._response))
        yield self._event("response.in_progress", response=dict(self._response))
        text, is_begun = "", False
        calls: list[ToolCall] = []
        reason, usage = "stop", Usage(0, 0)
        async for delta in deltas:
            if delta.text and not is_begun:
                is_begun = True
                for event in self._begin_message():
                    yield event
            if delta.text:
                text += delta.text
                yield self._event(
                    "response.output_text.delta", **self._place(), delta=delta.text, logprobs=[]
                )
            calls += delta.calls
            if delta.finish_reason is not None and delta.usage is not None:
                reason, usage = delta.finish_reason, delta.usage
        is_cut = reason == "length"
        if not is_begun and not calls:
            is_begun = True
            for event in self._begin_message():
                yield event
        if is_begun:
            for event in self._end_message(text, is_cut):
                yield event
        for call in calls:
            for event in self._call(call):
                yield event
        self._response |= {
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": self._items,
            "usage": _usage_json(usage),
        }
        yield self._event(f"response.{self._response['status']}", response=self._response)

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._sequence_number += 1
        return {"type": kind, "sequence_number": self._sequence_number, **fields}

    def _place(self) -> dict[str, Any]:
        """Where the text of the message is."""
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1, "content_index": 0}

    def _item_event(self, kind: str) -> dict[str, Any]:
        event = self._event(f"response.output_item.{kind}", output_index=len(self._items) - 1)
        return event | {"item": dict(self._items[-1])}

    def _begin_message(self) -> list[dict[str, Any]]:
        item = {
            "id": new_id("msg"),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._items.append(item)
        added = self._item_event("added")
        return [added, self._event("response.content_part.added", **self._place(), part=_text_part(""))]

    def _end_message(self, text: str, is_cut: bool) -> list[dict[str, Any]]:
        part = _text_part(text)
        done = [
            self._event("response.output_text.done", **self._place(), text=text, logprobs=[]),
            self._event("response.content_part.done", **self._place(), part=part),
        ]
        self._items[-1] |= {"status": "incomplete" if is_cut else "completed", "content": [part]}
        return [*done, self._item_event("done")]

    def _call(self, call: ToolCall) -> list[dict[str, Any]]:
        """A call is known for one only when it is whole: its arguments are one delta."""
        wire = call_json(call)
        name, arguments = wire["function"]["name"], wire["function"]["arguments"]
        item = {"id": new_id("fc"), "type": "function_call", "status": "in_progress", "call_id": wire["id"]}
        self._items.append(item | {"name": name, "arguments": ""})
        place = {"item_id": item["id"], "output_index": len(self._items) - 1}
        events = [
            self._item_event("added"),
            self._event("response.function_call_arguments.delta", **place, delta=arguments),
            self._event("response.function_call_arguments.done", **place, name=name, arguments=arguments),
        ]
        self._items[-1] |= {"status": "completed", "arguments": arguments}
        return [*events, self._item_event("done")]


def _frame(model: ServedModel, request: ResponsesRequest) -> dict[str, Any]:
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "model": model.name,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": request.tool_choice or "auto",
        "tools": [
            tool.model_dump() | {"parameters": tool.parameters or {}, "strict": False}
            for tool in request.tools or ()
        ],
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
        "metadata": {},
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage_json(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
