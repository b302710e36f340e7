"""The fields of /v1/responses, and what they mean as a chat request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from camelid.serve.api_error import ApiError
from camelid.serve.half_characters import check_characters
from camelid.serve.wire import (
    ChatRequest,
    ContentPart,
    FileContent,
    FileReference,
    FunctionDefinition,
    ImageContent,
    TextContent,
    Url,
    Wire,
    WireCall,
    WireFunction,
    WireMessage,
    WireTool,
)

__all__ = ["ResponsesRequest", "as_chat"]

ItemStatus = Literal["in_progress", "completed", "incomplete"] | None


def _no_number(value: Any) -> Any:
    if type(value) is int:  # 0 is equal to False, and to pydantic that is enough
        raise ValueError("expected false, got a number")
    return value


No = Annotated[Literal[False], BeforeValidator(_no_number)]


class InputText(Wire):
    """Text of a turn."""

    type: Literal["input_text"]
    text: str


class OutputText(Wire):
    """What was answered before."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


class InputImage(Wire):
    """A picture by URL, or a picture or clip by the id of its upload."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto"] | None = None


InputPart = Annotated[InputText | OutputText | InputImage, Field(discriminator="type")]


class MessageItem(Wire):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputPart]
    id: str | None = None
    status: ItemStatus = None


class CallItem(Wire):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: ItemStatus = None


class CallOutputItem(Wire):
    """What it gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str
    id: str | None = None
    status: ItemStatus = None


class FunctionTool(Wire):
    """What the model may call."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: No | None = None


class ResponsesRequest(Wire):
    """/v1/responses. Nothing is kept here, so nothing earlier can be referred to."""

    @model_validator(mode="before")
    @classmethod
    def _whole_characters(cls, data: Any) -> Any:
        check_characters(data)
        return data

    model: str
    input: str | Annotated[list[MessageItem | CallItem | CallOutputItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    stream: bool | None = None
    store: No | None = None
    user: str | None = None


def as_chat(request: ResponsesRequest) -> ChatRequest:
    """The same request of the other endpoint. Raises ApiError with the place of what cannot be said there."""
    messages = (
        [] if request.instructions is None else [WireMessage(role="system", content=request.instructions)]
    )
    if isinstance(request.input, str):
        messages.append(WireMessage(role="user", content=request.input))
    else:
        for index, item in enumerate(request.input):
            _append(messages, item, f"input.{index}")
    tools = [
        WireTool(
            type="function",
            function=FunctionDefinition(
                name=tool.name, description=tool.description, parameters=tool.parameters
            ),
        )
        for tool in request.tools or ()
    ]
    return ChatRequest(
        model=request.model,
        messages=messages,
        tools=tools or None,
        tool_choice=request.tool_choice,
        max_completion_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stream=bool(request.stream),
        user=request.user,
    )


def _append(messages: list[WireMessage], item: MessageItem | CallItem | CallOutputItem, place: str) -> None:
    """Calls join the assistant's turn before them: there a turn is text and then calls."""
    if isinstance(item, CallOutputItem):
        messages.append(WireMessage(role="tool", content=item.output, tool_call_id=item.call_id))
    elif isinstance(item, CallItem):
        call = WireCall(
            id=item.call_id,
            type="function",
            function=WireFunction(name=item.name, arguments=item.arguments),
        )
        if messages and messages[-1].role == "assistant":
            last = messages.pop()
            messages.append(last.model_copy(update={"tool_calls": [*(last.tool_calls or ()), call]}))
        else:
            messages.append(WireMessage(role="assistant", tool_calls=[call]))
    else:
        content = item.content
        parts = content if isinstance(content, str) else [_part(part, place) for part in content]
        messages.append(WireMessage(role=item.role, content=parts))


def _part(part: InputText | OutputText | InputImage, place: str) -> ContentPart:
    if not isinstance(part, InputImage):
        return TextContent(type="text", text=part.text)
    if (part.image_url is None) == (part.file_id is None):
        raise ApiError(
            400, f"{place}: input_image needs image_url or file_id", param=place, code="invalid_value"
        )
    if part.file_id is not None:
        return FileContent(type="file", file=FileReference(file_id=part.file_id))
    return ImageContent(type="image_url", image_url=Url(url=part.image_url or ""))
