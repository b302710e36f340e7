"""Structured answers and forced calls, asked for with the official client; the model's weights are random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

import httpx
import jsonschema_rs
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field

from camelid.infer.async_engine import AsyncEngine
from camelid.serve import ServedModel
from served import VOCAB_SIZE, serving, stopping_format
from tiny_engines import engine

QUESTION: Any = [{"role": "user", "content": "hi"}]
STREAMED = pytest.mark.parametrize("is_streamed", [False, True])


class Coat(Enum):
    """Colours."""

    brown = "brown"
    white = "white"


class Camel(BaseModel):
    """A camel."""

    model_config = ConfigDict(extra="forbid")
    humps: int = Field(ge=1, le=2)
    coat: Coat
    name: str = Field(max_length=6)


SCHEMA: dict[str, Any] = Camel.model_json_schema()
TOOLS: Any = [
    {"type": "function", "function": {"name": "feed", "parameters": SCHEMA}},
    {
        "type": "function",
        "function": {"name": "ride", "parameters": {"type": "object", "additionalProperties": False}},
    },
]


def schema_format(schema: dict[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "one", "schema": schema, "strict": True}}


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    async def make() -> ServedModel:
        one = engine(pages=64, stop_ids=stopping_format().tokenizer.stop_ids)
        return ServedModel("tiny", "d1935", "bf16", VOCAB_SIZE, stopping_format(), AsyncEngine(one))

    with serving(make) as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


@STREAMED
def test_json_schema(client: OpenAI, is_streamed: bool) -> None:
    fields: Any = {"model": "tiny", "messages": QUESTION, "response_format": schema_format(SCHEMA), "n": 8}
    answers = [""] * 8
    if is_streamed:
        for chunk in client.chat.completions.create(**fields, seed=1, stream=True):
            answers[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    else:
        for choice in client.chat.completions.create(**fields, seed=1).choices:
            assert choice.finish_reason == "stop"
            answers[choice.index] = choice.message.content or ""
    for answer in answers:
        jsonschema_rs.validate(SCHEMA, json.loads(answer))
    assert len(set(answers)) == 8


def test_parse(client: OpenAI) -> None:
    for seed in range(5):
        answer = client.chat.completions.parse(
            model="tiny", messages=QUESTION, response_format=Camel, seed=seed
        )
        camel = answer.choices[0].message.parsed
        assert isinstance(camel, Camel) and camel.humps in (1, 2)


def test_json_object_and_text(client: OpenAI) -> None:
    fields: Any = {"model": "tiny", "messages": QUESTION, "seed": 3, "max_tokens": 40}
    start = client.chat.completions.create(**fields, response_format={"type": "json_object"})
    assert (start.choices[0].message.content or "").startswith("{")
    free, text = (
        client.chat.completions.create(**fields, **more).choices[0].message.content
        for more in ({}, {"response_format": {"type": "text"}})
    )
    assert free == text and free is not None and not free.startswith("{")


@STREAMED
@pytest.mark.parametrize("named", [None, "feed", "ride"])
def test_forced_calls(client: OpenAI, named: str | None, is_streamed: bool) -> None:
    choice: Any = {"type": "function", "function": {"name": named}} if named else "required"
    fields: Any = {"model": "tiny", "messages": QUESTION, "tools": TOOLS, "tool_choice": choice}
    called = set()
    for seed in range(6):
        if is_streamed:
            with client.chat.completions.stream(**fields, seed=seed) as stream:
                (answer,) = stream.get_final_completion().choices
        else:
            (answer,) = client.chat.completions.create(**fields, seed=seed).choices  # type: ignore[assignment]
        assert answer.finish_reason == "tool_calls" and not answer.message.content
        calls: Any = answer.message.tool_calls
        assert len(calls) == 1 or named is None
        for call in calls:
            called.add(call.function.name)
            arguments = json.loads(call.function.arguments)
            if call.function.name == "feed":
                Camel.model_validate(arguments)
            else:
                assert arguments == {}
    assert called == {named} if named else called <= {"feed", "ride"}


@STREAMED
@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strin"}, "Invalid type: strin"),
        ({"enum": []}, "Unsatisfiable"),
        ({"$ref": "#/$defs/none"}, "json_schema: "),
        ({"pattern": "(a", "type": "string"}, "json_schema: "),
    ],
)
def test_schemas_that_cannot_be_followed(client: OpenAI, schema: Any, reason: str, is_streamed: bool) -> None:
    fields: Any = {"model": "tiny", "messages": QUESTION, "stream": is_streamed}
    with pytest.raises(openai.BadRequestError, match=reason) as refused:
        client.chat.completions.create(**fields, response_format=schema_format(schema))
    assert refused.value.param == "response_format" and refused.value.code == "invalid_constraint"
    tool = {"type": "function", "function": {"name": "f", "parameters": schema | {"type": "object"}}}
    if "$ref" in schema:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**fields, tools=[tool], tool_choice="required")
        assert refused.value.param == "tools"


def test_schemas_nested_without_end(client: OpenAI) -> None:
    """Deeper than any parser goes: refused, and the server lives on."""
    for depth in (100, 500, 20_000):
        schema = '{"items":' * depth + "{}" + "}" * depth
        body = (
            '{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "response_format": {"type": '
            '"json_schema", "json_schema": {"name": "one", "schema": ' + schema + '}}, "max_tokens": 3}'
        )
        response = httpx.post(
            f"{client.base_url}chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 400 or depth == 100, (depth, response.text[:300])
    assert client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=2).usage
