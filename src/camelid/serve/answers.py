"""The fields of answers, as /openapi.json tells them. Answers may grow fields; none of these goes away."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

__all__ = [
    "ChatCompletion",
    "ErrorBody",
    "Health",
    "ModelEntry",
    "ModelList",
    "ResponseBody",
    "TextCompletion",
    "documented",
]

Unread = dict[str, Any]


class ErrorDetail(BaseModel):
    """What is wrong, of which kind, and in which field."""

    message: str
    type: Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The answer of every refusal."""

    error: ErrorDetail


class Health(BaseModel):
    """Whether requests are taken."""

    status: Literal["ok"]


class ModelEntry(BaseModel):
    """A model, with the context that it accepts."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_context: int
    digest: str
    quantisation: str
    num_layers: int
    num_experts: int
    input_modalities: list[Literal["text", "image", "video"]]
    max_body_bytes: int


class ModelList(BaseModel):
    """All that are served: one."""

    object: Literal["list"]
    data: list[ModelEntry]


class CachedTokens(BaseModel):
    """What earlier requests had computed."""

    cached_tokens: int


class UsageCounts(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CalledFunction(BaseModel):
    """A name, and arguments as JSON in a string."""

    name: str
    arguments: str


class Called(BaseModel):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[Called] = []


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: Unread | None
    experts: list[list[list[int]]] = []  # per token, per layer; if asked for
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    """/v1/chat/completions, whole."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageCounts


class TextChoice(BaseModel):
    """One of `n` continuations of one of the prompts."""

    index: int
    text: str
    logprobs: Unread | None
    finish_reason: Literal["stop", "length"]


class TextCompletion(BaseModel):
    """/v1/completions, whole."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageCounts


class ResponseUsage(BaseModel):
    """Tokens."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    total_tokens: int


class ResponseBody(BaseModel):
    """/v1/responses, whole."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    incomplete_details: Unread | None
    model: str
    output: list[Unread]
    store: Literal[False]
    usage: ResponseUsage


# One server-sent event: `data` is a chunk as JSON, or [DONE]; ours have no other field.
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}

REFUSALS = {
    400: "A field is wrong, unknown, or not supported; `param` names it",
    401: "No valid API key",
    404: "No such model, file or route",
    408: "The body came, or the answer was read, too slowly",
    413: "The body is too large",
    429: "Too many requests wait; `Retry-After` says when to come again",
    503: "The engine has stopped",
}


def documented(
    *statuses: int, is_streamed: bool = False, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: refusals by status; with `is_streamed`, server-sent events beside the JSON."""
    found: dict[int | str, dict[str, Any]] = {
        code: {"model": ErrorBody, "description": REFUSALS[code]} for code in statuses
    }
    if is_streamed:
        events = {"text/event-stream": {"schema": EVENT}}
        found[status] = {"description": "Whole, or with `stream` as server-sent events", "content": events}
    return found
