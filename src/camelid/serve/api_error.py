"""Errors as OpenAI's API writes them; a client's fault is never a 500."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

from camelid.core.errors import InputError

__all__ = ["ApiError", "context_error", "error_response", "input_error", "queue_full", "validation_error"]

MAX_MESSAGE_CHARS = 1000
RETRY_SECONDS = 2


class ApiError(Exception):
    """What the client is told. `param` names the field that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers


def error_response(error: ApiError) -> JSONResponse:
    """{"error": {message, type, param, code}}"""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    message, param = _printable(error.message), None if error.param is None else _printable(error.param)
    body = {"error": {"message": message, "type": kind, "param": param, "code": error.code}}
    return JSONResponse(body, error.status, headers=dict(error.headers or {}))


def _printable(text: str) -> str:
    """Names that clients invent may be long, or half characters."""
    text = text if len(text) <= MAX_MESSAGE_CHARS else text[:MAX_MESSAGE_CHARS] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def validation_error(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first problem that pydantic found, by the name of its field; unknown fields before wrong ones."""
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    place = ".".join(str(part) for part in problem["loc"] if part != "body") or None
    if unknown:
        return ApiError(400, f"{place} is not supported here", param=place, code="unknown_parameter")
    if problem["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {problem['ctx']['error']}", code="invalid_json")
    return ApiError(
        400,
        f"{place or 'the body'}: {problem['msg'].removeprefix('Value error, ')}",
        param=place,
        code="invalid_value",
    )


def context_error(num_tokens: int, max_context: int) -> ApiError:
    """A prompt that leaves no room for an answer."""
    return ApiError(
        400,
        f"the prompt has {num_tokens:,} tokens, the context is {max_context:,}, and an answer needs at least one",
        param="messages",
        code="context_length_exceeded",
    )


def input_error(error: InputError, param: str) -> ApiError:
    """What our own rooms refuse."""
    return ApiError(400, str(error), param=param, code="invalid_value")


def queue_full(why: str) -> ApiError:
    """429, and when to come again."""
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return ApiError(429, f"{why}; try again later", code="queue_full", headers=headers)
