"""The official client against a real server with a real, tiny engine."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI
from PIL import Image

from camelid.core import Message, ToolCall
from camelid.testing.scripted_engine import ScriptedEngine
from camelid.testing.tiny import tiny_model
from served import chat_format, scripted, serving

QUESTION: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is a camel a horse?"},
]
MESSAGES = [Message.of("system", "Be brief."), Message.of("user", "Is a camel a horse?")]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    with serving() as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(client: OpenAI) -> None:
    (entry,) = client.models.list().data
    assert entry.id == "tiny" and client.models.retrieve("tiny") == entry
    assert entry.model_extra == {
        "max_context": 2048,
        "digest": "d1935",
        "quantisation": "bf16",
        "num_layers": 6,
        "num_experts": 4,
        "input_modalities": ["text", "image", "video"],
        "max_body_bytes": 32 * 2**20,
    }
    with pytest.raises(openai.NotFoundError, match="'other' is not served here, but 'tiny' is"):
        client.models.retrieve("other")


def test_a_whole_answer_and_a_stream(client: OpenAI) -> None:
    fields: Any = {"model": "tiny", "messages": QUESTION, "max_completion_tokens": 30, "seed": 5}
    whole = client.chat.completions.create(**fields)
    chunks = list(
        client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text and whole.choices[0].finish_reason == "length"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[0].choices[0].delta.role == "assistant" and len({chunk.id for chunk in chunks}) == 1
    prompt = chat_format().encode(MESSAGES, for_generation=True)
    for usage in (whole.usage, chunks[-1].usage):
        assert usage is not None and usage.prompt_tokens == len(prompt) and usage.completion_tokens == 30
    assert chunks[-1].usage and chunks[-1].usage.prompt_tokens_details
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 64 * ((len(prompt) - 1) // 64)


def test_seeds_and_choices(client: OpenAI) -> None:
    fields: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 12, "n": 3}
    first, second = (client.chat.completions.create(**fields, seed=1) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices] and len(set(texts)) == 3
    unseeded = {client.chat.completions.create(**fields).choices[0].message.content for _ in range(2)}
    assert len(unseeded) == 2
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**fields, seed=1, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts
    assert first.usage and first.usage.completion_tokens == 36


def test_logprobs(client: OpenAI) -> None:
    fields: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 5, "temperature": 0, "logprobs": True}
    answer = client.chat.completions.create(**fields, top_logprobs=2)
    content = answer.choices[0].logprobs and answer.choices[0].logprobs.content
    assert content is not None and len(content) == 5
    for entry in content:
        assert entry.logprob == entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob
        assert entry.bytes == entry.top_logprobs[0].bytes
    assert client.chat.completions.create(**fields).choices[0].logprobs
    streamed = [
        chunk.choices[0].logprobs.content[0]
        for chunk in client.chat.completions.create(**fields, top_logprobs=2, stream=True)
        if chunk.choices[0].logprobs and chunk.choices[0].logprobs.content
    ]
    assert streamed == content


def test_experts(client: OpenAI) -> None:
    """Per token and layer those that the model chose where it predicted the token; nothing where nobody asked."""
    fields: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 5, "temperature": 0, "logprobs": True}
    whole = client.chat.completions.create(**fields, extra_body={"include_experts": True}).choices[0]
    tokens = whole.logprobs and whole.logprobs.content
    assert tokens is not None and whole.model_extra is not None

    ids = chat_format().encode(MESSAGES, for_generation=True).token_ids.tolist()
    ids += [token.bytes[0] if token.bytes else -1 for token in tokens]
    with torch.inference_mode():
        output = tiny_model("scout", vision=True, attention_chunk_size=64).to(torch.bfloat16)(
            torch.tensor(ids)
        )
    routed = torch.stack([output.routers[layer].expert_ids for layer in range(6)], dim=1)
    assert whole.model_extra["experts"] == routed[-6:-1].tolist()

    chunks = client.chat.completions.create(**fields, stream=True, extra_body={"include_experts": True})
    streamed = [(chunk.choices[0].model_extra or {})["experts"] for chunk in chunks]
    assert [one for part in streamed for one in part] == whole.model_extra["experts"]
    assert max(map(len, streamed)) == 1
    assert "experts" not in (client.chat.completions.create(**fields).choices[0].model_extra or {})


def test_pictures(client: OpenAI) -> None:
    """What the wire brings is the picture, and another picture is another question."""
    answers = []
    for angle in (0, 0, 90):
        file = io.BytesIO()
        Image.linear_gradient("L").resize((16, 32)).rotate(angle).save(file, "png")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
        messages: Any = [{"role": "user", "content": content}]
        answers.append(
            client.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=40)
        )
    texts = [answer.choices[0].message.content for answer in answers]
    assert texts[0] == texts[1] != texts[2]


def test_completions(client: OpenAI) -> None:
    fields: Any = {"model": "tiny", "max_tokens": 6, "seed": 3}
    one = client.completions.create(**fields, prompt="a camel")
    assert one.choices[0].text == client.completions.create(**fields, prompt=list(b"a camel")).choices[0].text
    two = client.completions.create(**fields, prompt=["a camel", "a horse"])
    assert [choice.index for choice in two.choices] == [0, 1] and two.choices[0].text == one.choices[0].text
    assert two.usage and two.usage.prompt_tokens == 14 and two.usage.completion_tokens == 12
    streamed = list(client.completions.create(**fields, prompt="a camel", stream=True, logprobs=1))
    assert "".join(chunk.choices[0].text for chunk in streamed) == one.choices[0].text
    whole = client.completions.create(**fields, prompt="a camel", logprobs=1).choices[0].logprobs
    assert whole and whole.tokens and len(whole.tokens) == 6
    pieces = [chunk.choices[0].logprobs for chunk in streamed if chunk.choices[0].logprobs]
    assert [piece.token_logprobs[0] for piece in pieces if piece.token_logprobs] == whole.token_logprobs


def test_stop(client: OpenAI) -> None:
    fields: Any = {"model": "tiny", "prompt": "a camel", "max_tokens": 30, "seed": 3}
    text = client.completions.create(**fields).choices[0].text
    cut = client.completions.create(**fields, stop=[text[6:9], "never"]).choices[0]
    assert cut.text == text[: text.find(text[6:9])] and cut.finish_reason == "stop"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_tools(is_streamed: bool) -> None:
    """Calls come back as OpenAI has them, and go in again with their answers."""
    said = 'Wait.{"name": "get_weather", "parameters": {"city": "Özd"}}'
    one = ScriptedEngine(said.replace("Ö", "\\u00d6"))
    with serving(scripted(one)) as address, OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        fields: Any = {"model": "tiny", "messages": QUESTION, "tools": [WEATHER]}
        if is_streamed:
            with client.chat.completions.stream(**fields) as stream:
                choice: Any = stream.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**fields).choices[0]
        (call,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls" and choice.message.content == "Wait."
        assert call.function.name == "get_weather" and json.loads(call.function.arguments) == {"city": "Özd"}
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Özd"}'},
            }
        ]
        fields["messages"] = [
            *QUESTION,
            {"role": "assistant", "content": "Wait.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny."},
        ]
        client.chat.completions.create(**fields, tool_choice="none")
    messages = [
        *MESSAGES,
        Message.of("assistant", "Wait.", tool_calls=[ToolCall("get_weather", {"city": "Özd"})]),
        Message.of("ipython", "Sunny."),
    ]
    expected = chat_format().encode(messages, for_generation=True).token_ids
    assert one.requests[-1].prompt.token_ids.tolist() == expected.tolist()
    assert len(one.requests[0].prompt) > len(chat_format().encode(MESSAGES, for_generation=True)), (
        "tools are offered"
    )
