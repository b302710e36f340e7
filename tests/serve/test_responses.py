"""/v1/responses by OpenAI's client: the same answers as /v1/chat/completions, in items and typed events."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from camelid.core import Message, ToolCall
from camelid.testing.scripted_engine import ScriptedEngine
from served import chat_format, scripted, serving

TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    with serving() as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_it_says_what_chat_says(client: OpenAI) -> None:
    response = client.responses.create(
        model="tiny",
        instructions="Be brief.",
        input="Is a camel a horse?",
        temperature=0,
        max_output_tokens=25,
    )
    chat = client.chat.completions.create(
        model="tiny",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Is a camel a horse?"},
        ],
        temperature=0,
        max_completion_tokens=25,
    )
    assert response.output_text == chat.choices[0].message.content and chat.usage and response.usage
    assert response.usage.input_tokens == chat.usage.prompt_tokens and response.usage.output_tokens == 25
    assert response.usage.total_tokens == chat.usage.total_tokens
    assert response.status == "incomplete" and response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.store is False and response.instructions == "Be brief."


def test_the_stream_is_the_answer(client: OpenAI) -> None:
    fields: Any = {"model": "tiny", "input": "Is a camel a horse?", "temperature": 0, "max_output_tokens": 12}
    whole = client.responses.create(**fields)
    events = list(client.responses.create(**fields, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last: Any = events[-1]
    assert text == whole.output_text == last.response.output_text
    assert last.response.usage.output_tokens == 12
    created: Any = events[0]
    assert created.response.status == "in_progress" and created.response.output == []


def test_items_are_the_conversation_that_they_mean() -> None:
    one = ScriptedEngine("fine")
    with (
        serving(scripted(one)) as address,
        OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        first = client.responses.create(model="tiny", input="Hello")
        items: Any = [
            {"role": "user", "content": "Hello"},
            *[item.model_dump(exclude_none=True) for item in first.output],
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"role": "assistant", "content": "Wait."},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "get_weather",
                "arguments": '{"city": "Rome"}',
            },
            {"type": "function_call", "call_id": "c2", "name": "get_weather", "arguments": '{"city": "Özd"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "Sunny."},
            {"type": "function_call_output", "call_id": "c2", "output": "Rain."},
            {"role": "user", "content": "So?"},
        ]
        response = client.responses.create(model="tiny", instructions="Be brief.", input=items)
    assert response.status == "completed" and response.output_text == "fine"
    calls = [ToolCall("get_weather", {"city": city}) for city in ("Rome", "Özd")]
    messages = [
        Message.of("system", "Be brief."),
        Message.of("user", "Hello"),
        Message.of("assistant", "fine"),
        Message.of("user", "Weather?"),
        Message.of("assistant", "Wait.", tool_calls=calls),
        Message.of("ipython", "Sunny."),
        Message.of("ipython", "Rain."),
        Message.of("user", "So?"),
    ]
    expected = chat_format().encode(messages, for_generation=True).token_ids
    assert one.requests[-1].prompt.token_ids.tolist() == expected.tolist()


@pytest.mark.parametrize("text", ["Wait.", ""])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_calls(is_streamed: bool, text: str) -> None:
    said = text + '{"name": "get_weather", "parameters": {"city": "Rome"}}'
    with (
        serving(scripted(ScriptedEngine(said))) as address,
        OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        fields: Any = {"model": "tiny", "input": "Weather in Rome?", "tools": [TOOL]}
        if is_streamed:
            with client.responses.stream(**fields) as stream:
                kinds = [event.type for event in stream]
                response: Any = stream.get_final_response()
            assert kinds[-5:] == [
                "response.output_item.added", "response.function_call_arguments.delta",
                "response.function_call_arguments.done", "response.output_item.done", "response.completed",
            ]  # fmt: skip
        else:
            response = client.responses.create(**fields)
        plain = client.responses.create(**fields, tool_choice="none")
    assert [item.type for item in response.output] == (["message"] if text else []) + ["function_call"]
    call = response.output[-1]
    assert call.name == "get_weather" and json.loads(call.arguments) == {"city": "Rome"}
    assert call.call_id.startswith("call") and call.status == "completed" and response.output_text == text
    assert response.status == "completed" and plain.output_text == said


def test_pictures_by_url_and_by_id(client: OpenAI) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((16, 32)).save(file, "png")
    uploaded = client.files.create(file=("cat.png", file.getvalue()), purpose="vision")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    texts = []
    for part in ({"image_url": url}, {"file_id": uploaded.id}, {"image_url": url, "detail": "auto"}):
        content: Any = [{"type": "input_image", **part}, {"type": "input_text", "text": "What is it?"}]
        items: Any = [{"role": "user", "content": content}]
        fields: Any = {"model": "tiny", "input": items, "temperature": 0, "max_output_tokens": 20}
        texts.append(client.responses.create(**fields).output_text)
    assert len(set(texts)) == 1
    with pytest.raises(openai.NotFoundError):
        client.responses.create(
            model="tiny",
            input=[
                {"role": "user", "content": [{"type": "input_image", "file_id": "file-no", "detail": "auto"}]}
            ],
        )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"store": 0}, "store"),
        ({"background": True}, "background"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [TOOL | {"strict": True}]}, "tools.0.strict"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]}, "messages.0"),
        ({"input": "\ud800"}, None),
        ({"input": "x" * 5000}, "messages"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_stream", [False, True])
def test_refusals(client: OpenAI, fields: dict[str, Any], param: str | None, is_stream: bool) -> None:
    body = {"model": "tiny", "input": "hi", "stream": is_stream} | fields
    response = httpx.post(
        f"{client.base_url}responses", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    error = response.json()["error"]
    assert response.status_code == 400 and error["type"] == "invalid_request_error", error
    assert param is None or error["param"].startswith(param), error
