"""Requests of the wire as messages, tools and sampling parameters."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from camelid.core import (
    Constraint,
    Message,
    Part,
    Role,
    SamplingParams,
    TextPart,
    ToolCall,
    ToolDefinition,
)
from camelid.core.errors import InputError
from camelid.inputs import call_constraint
from camelid.serve.api_error import ApiError, input_error
from camelid.serve.half_characters import check_characters
from camelid.serve.media import Media
from camelid.serve.wire import ChatRequest, NamedTool, SamplingFields, WireMessage, WireTool

__all__ = ["read_constraint", "read_messages", "read_sampling", "read_tools"]

ROLES: dict[str, Role] = {"developer": "system", "tool": "ipython"}  # others have the same names


def read_messages(messages: Sequence[WireMessage], media: Media) -> list[Message]:
    """Raises ApiError with the place of what is wrong."""
    return [_message(message, media, f"messages.{index}") for index, message in enumerate(messages)]


def _message(message: WireMessage, media: Media, place: str) -> Message:
    if message.content is None and not message.tool_calls:
        raise ApiError(400, f"{place}.content: required without tool_calls", param=f"{place}.content")
    if (message.tool_call_id is not None) != (message.role == "tool"):
        raise ApiError(
            400, f"{place}: tool_call_id and the role tool belong together", param=f"{place}.tool_call_id"
        )
    content = message.content or ""
    parts: tuple[Part, ...]
    if isinstance(content, str):
        parts = (TextPart(content),) if content or not message.tool_calls else ()
    else:
        parts = tuple(media.part(part, f"{place}.content.{index}") for index, part in enumerate(content))
    try:
        calls = tuple(
            ToolCall(call.function.name, _arguments(call.function.arguments))
            for call in message.tool_calls or ()
        )
        role = ROLES.get(message.role, message.role)
        return Message(role, parts, calls)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"{place}.tool_calls: {error}", param=f"{place}.tool_calls") from error


def _arguments(text: str) -> Any:
    arguments = json.loads(text)
    check_characters(arguments)
    return arguments


def read_tools(tools: Sequence[WireTool] | None) -> list[ToolDefinition]:
    """The tools offered; raises ApiError."""
    try:
        return [
            ToolDefinition(
                tool.function.name,
                tool.function.description or "",
                tool.function.parameters or {"type": "object", "properties": {}},
            )
            for tool in tools or ()
        ]
    except InputError as error:
        raise input_error(error, "tools") from error


def read_constraint(request: ChatRequest) -> tuple[Constraint | None, str]:
    """What the answer must be, and the field that says so; raises ApiError."""
    choice, wanted = request.tool_choice, request.response_format
    if choice == "required" or isinstance(choice, NamedTool):
        name = choice.function.name if isinstance(choice, NamedTool) else None
        if wanted is not None and wanted.type != "text":
            raise ApiError(400, "response_format: tool_choice wants a call", param="response_format")
        tools = [tool for tool in read_tools(request.tools) if name in (None, tool.name)]
        if not tools:
            what = "no tools" if name is None else f"no tool {name!r}"
            raise ApiError(400, f"tool_choice: {what} among tools", param="tool_choice")
        try:
            return call_constraint(tools, has_many=name is None), "tools"
        except InputError as error:
            raise input_error(error, "tools") from error
    if wanted is None or wanted.type == "text":
        return None, "response_format"
    if request.tools and choice != "none":
        # A schema would forbid every call.
        raise ApiError(
            400, "response_format: together with tools it needs tool_choice none", param="response_format"
        )
    schema = {"type": "object"} if wanted.type == "json_object" else wanted.json_schema.schema_
    return Constraint("json_schema", json.dumps(schema, ensure_ascii=False)), "response_format"


def read_sampling(
    fields: SamplingFields,
    max_tokens: int,
    num_logprobs: int | None,
    vocab_size: int,
    constraint: Constraint | None = None,
) -> SamplingParams:
    """OpenAI's defaults: temperature 1, and another seed every time."""
    bias = []
    for token, value in (fields.logit_bias or {}).items():
        if int(token) >= vocab_size:
            raise ApiError(
                400,
                f"logit_bias: {token} is no token id below {vocab_size}",
                param="logit_bias",
            )
        bias.append((int(token), value))
    stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=1.0 if fields.temperature is None else fields.temperature,
        top_k=fields.top_k or 0,
        top_p=1.0 if fields.top_p is None else fields.top_p,
        min_p=fields.min_p or 0.0,
        seed=secrets.randbits(63) if fields.seed is None else fields.seed,
        repetition_penalty=1.0 if fields.repetition_penalty is None else fields.repetition_penalty,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        logit_bias=tuple(bias),
        stop=stop,
        num_logprobs=num_logprobs,
        constraint=constraint,
    )
