"""The fields of requests. What is not here is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "ContentPart",
    "NamedTool",
    "SamplingFields",
    "WireMessage",
    "WireTool",
]

MAX_CHOICES = 128


class Wire(BaseModel):
    """Refuses unknown fields and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Url(Wire):
    """A data URL."""

    url: str
    detail: Literal["auto"] | None = None  # low and high would mean other pixels than training saw


class TextContent(Wire):
    """Text of a turn."""

    type: Literal["text"]
    text: str


class ImageContent(Wire):
    """A picture, where it stands in the turn."""

    type: Literal["image_url"]
    image_url: Url


class VideoContent(Wire):
    """Ours: OpenAI's wire has no video."""

    type: Literal["video_url"]
    video_url: Url


ContentPart = Annotated[TextContent | ImageContent | VideoContent, Field(discriminator="type")]


class WireFunction(Wire):
    """Name and JSON arguments of a call."""

    name: str
    arguments: str


class WireCall(Wire):
    """A call that the assistant made."""

    id: str
    type: Literal["function"]
    function: WireFunction


class WireMessage(Wire):
    """One turn. A tool's answer says which call it belongs to; the model sees the order alone."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[WireCall] | None = None
    tool_call_id: str | None = None


class FunctionDefinition(Wire):
    """A function and the JSON schema of its arguments."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class WireTool(Wire):
    """What the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Wire):
    """One of the tools offered."""

    name: str


class NamedTool(Wire):
    """The tool that must be called."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class TextFormat(Wire):
    """Anything."""

    type: Literal["text"]


class JsonObjectFormat(Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Wire):
    """A schema. It is followed to the letter, `strict` or not."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Wire):
    """An instance of a JSON schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StreamOptions(Wire):
    """Whether a last chunk carries the usage."""

    include_usage: bool = False


class SamplingFields(Wire):
    """What both endpoints have. `top_k`, `min_p` and `repetition_penalty` are not OpenAI's."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    user: str | None = None  # read by nobody: it only names the client's own user


class ChatRequest(SamplingFields):
    """/v1/chat/completions"""

    messages: list[WireMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[WireTool] | None = Field(default=None, min_length=1)
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    include_experts: bool = False  # ours: which experts made each token


TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """/v1/completions"""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[TokenIds], Field(min_length=1)]
    )
    logprobs: int | None = Field(default=None, ge=0, le=20)
