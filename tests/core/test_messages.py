"""Messages and the calls in them."""

from __future__ import annotations

import pytest

from camelid.core import Message, TextPart, ToolCall, ToolDefinition
from camelid.core.errors import InputError


def test_a_message_from_parts() -> None:
    call = ToolCall("f", {"a": [1, {"b": None}]})
    message = Message.of("assistant", "a", TextPart("b"), tool_calls=[call])
    assert message == Message("assistant", (TextPart("a"), TextPart("b")), (call,))
    assert message.text == "ab"


@pytest.mark.parametrize("role", ["system", "user", "ipython"])
def test_only_the_assistant_calls_tools(role: str) -> None:
    with pytest.raises(InputError, match=f"not the role '{role}'"):
        Message(role, (), (ToolCall("f", {}),))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a b", "a\n", "é", '"', "<", "x" * 129])
def test_names_that_would_break_what_stands_around_them(name: str) -> None:
    with pytest.raises(InputError, match="1 to 128"):
        ToolCall(name, {})
    with pytest.raises(InputError, match="1 to 128"):
        ToolDefinition(name)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("inf"), "f.a: JSON has no inf"),
        ((1, 2), "f.a: JSON has no tuple"),
        (b"x", "f.a: JSON has no bytes"),
        ([{"b": {1}}], "f.a.0.b: JSON has no set"),
        ({1: 2}, "f.a: the key 1 is no string"),
    ],
)
def test_arguments_and_schemas_are_json(value: object, message: str) -> None:
    with pytest.raises(InputError, match=f"the arguments of {message}"):
        ToolCall("f", {"a": value})
    with pytest.raises(InputError, match=f"the parameters of {message}"):
        ToolDefinition("f", "", {"a": value})
