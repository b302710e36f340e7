"""The JSON form of messages: what it means and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from camelid.core.errors import InputError
from camelid.core.messages import ImagePart, Message, TextPart, ToolCall, VideoPart
from camelid.inputs import parse_messages

BASE = Path("/pictures")


def test_plain_and_mixed_content() -> None:
    messages = parse_messages(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "image", "path": "camel.png"},
                    {"type": "video", "path": "/films/camel.mp4"},
                    {"type": "text", "text": "What is this?"},
                ],
            },
        ],
        BASE,
    )
    assert messages[0] == Message.of("system", "Be brief.")
    assert messages[1].parts == (
        ImagePart(BASE / "camel.png"),
        VideoPart(Path("/films/camel.mp4")),
        TextPart("What is this?"),
    )


def test_calls_and_results() -> None:
    call = {"name": "get_weather", "arguments": {"city": "Oslo", "days": [1, 2.5, None]}}
    messages = parse_messages(
        [
            {"role": "assistant", "tool_calls": [call, {"name": "clock", "arguments": {}}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "ipython", "content": "-3 °C"},
        ],
        BASE,
    )
    oslo = ToolCall("get_weather", {"city": "Oslo", "days": [1, 2.5, None]})
    assert messages == [
        Message.of("assistant", tool_calls=[oslo, ToolCall("clock", {})]),
        Message.of("assistant", "I look.", tool_calls=[oslo]),
        Message.of("ipython", "-3 °C"),
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the whole: .*at least 1 item"),
        ({"role": "user"}, "the whole: .*list"),
        ([{"role": "user", "content": "a", "name": "b"}], "0.name: Extra inputs are not permitted"),
        ([{"role": "robot", "content": "a"}], "0.role: .*'system', 'user', 'assistant' or 'ipython'"),
        ([{"role": "user"}], "0.content: Field required"),
        ([{"role": "user", "content": 3}], "0.content.*: .*string"),
        ([{"role": "user", "content": [{"type": "sound", "path": "a"}]}], "0.content.*: .*'sound'"),
        (
            [{"role": "user", "content": [{"type": "image", "path": "a", "size": 3}]}],
            "0.content.*size: Extra",
        ),
        ([{"role": "user", "content": [{"type": "image", "text": "a"}]}], "0.content.*path: Field required"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "0.content.*text: .*string"),
        ([{"role": "assistant", "content": None}], "0.content: Field required"),
        ([{"role": "assistant", "tool_calls": []}], "0.tool_calls: .*at least 1 item"),
        ([{"role": "assistant", "tool_calls": [{"name": "f"}]}], "0.tool_calls.0.arguments: Field required"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{}"}]}], "0.arguments: .*dict"),
        (
            [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}, "id": "1"}]}],
            "0.tool_calls.0.id: Extra",
        ),
        ([{"role": "assistant", "tool_calls": [{"name": "a b", "arguments": {}}]}], "0.tool_calls: .*'a b'"),
        (
            [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": float("nan")}}]}],
            "0.tool_calls: the arguments of f.a: JSON has no nan",
        ),
        (
            [
                {"role": "user", "content": "a"},
                {"role": "user", "content": "a", "tool_calls": [{"name": "f", "arguments": {}}]},
            ],
            "1.tool_calls: only the assistant calls tools, not the role 'user'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"messages: .*{message}"):
        parse_messages(value, BASE)
