"""The fields of requests. What is not here is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from camelid.serve.half_characters import check_characters

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "ContentPart",
    "FileContent",
    "ImageContent",
    "NamedTool",
    "SamplingFields",
    "TextContent",
    "WireMessage",
    "WireTool",
]

MAX_CHOICES = 128
MAX_PROMPTS = 2048
MAX_BIASES = 1024
MAX_STOP_CHARS = 256  # each token of an answer is held against all beginnings of all stop strings


class Wire(BaseModel):
    """Refuses unknown fields and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Url(Wire):
    """A data URL, or one of a host that is allowed."""

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


class FileReference(Wire):
    """What an upload was called by the server."""

    file_id: str


class FileContent(Wire):
    """An uploaded picture or clip."""

    type: Literal["file"]
    file: FileReference


ContentPart = Annotated[TextContent | ImageContent | VideoContent | FileContent, Field(discriminator="type")]


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


StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
BiasedToken = Annotated[str, Field(pattern="^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]


class SamplingFields(Wire):
    """What both endpoints have. `top_k`, `min_p` and `repetition_penalty` are not OpenAI's."""

    @model_validator(mode="before")
    @classmethod
    def _whole_characters(cls, data: Any) -> Any:
        check_characters(data)
        return data

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    # Further down, logits would leave the range of fp32.
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10)
    logit_bias: Annotated[dict[BiasedToken, Bias], Field(max_length=MAX_BIASES)] | None = None
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

    @property
    def has_media(self) -> bool:
        """Whether there are pictures or clips to decode."""
        contents = (message.content for message in self.messages if isinstance(message.content, list))
        return any(part.type != "text" for content in contents for part in content)


TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """/v1/completions"""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    logprobs: int | None = Field(default=None, ge=0, le=20)
