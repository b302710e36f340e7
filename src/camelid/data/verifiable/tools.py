"""Tool calls: of the tools that are offered, the right one, with the right arguments, in a form that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from camelid.core.messages import Message, ToolCall, ToolDefinition
from camelid.data.splits import Split
from camelid.data.verifiable.challenge import Challenge, challenge_rng
from camelid.inputs.tool_call_parser import parse_reply
from camelid.inputs.tool_calls import render_call

__all__ = ["ToolTask", "call_reward"]

CITIES = ("Bern", "Cairo", "Lima", "Oslo", "Paris", "Rome", "Seoul", "Tokyo")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@dataclass(frozen=True)
class _Offered:
    """A tool and the request that needs it."""

    name: str
    parameters: Mapping[str, Any]
    request: str


OFFERED = (
    _Offered("weather", CITY, "What is the weather in {}?"),
    _Offered("time", CITY, "What time is it in {}?"),
    _Offered("population", CITY, "How many people live in {}?"),
    _Offered("double", NUMBER, "What is two times {}?"),
    _Offered("timer", NUMBER, "Wake me in {} minutes."),
    _Offered("square", NUMBER, "What is {} squared?"),
)


class ToolTask:
    """Two tools are offered in few words, and one request needs one of them.

    A call in any of the three written forms counts. The words are shorter than those in which `ChatFormat` offers
    tools: definitions of that length are more than a nano model reads well.
    """

    name = "tools"

    def challenge(self, number: int, split: Split = "train") -> Challenge:
        """The same tools and request whenever it is asked for."""
        rng = challenge_rng(split, number, 11)
        first, second = (OFFERED[place] for place in rng.permutation(len(OFFERED))[:2])
        value = _value(first, rng)
        shown = [first, second] if rng.random() < 0.5 else [second, first]
        lines = "".join(f"{one.name}({', '.join(one.parameters['properties'])})\n" for one in shown)
        call = ToolCall(first.name, {next(iter(first.parameters["properties"])): value})
        tools = tuple(ToolDefinition(one.name, "", one.parameters) for one in shown)
        message = Message.of("user", f"Functions:\n{lines}{first.request.format(value)}")
        answer = Message.of("assistant", render_call(call, "json"))
        return Challenge((message,), lambda said: call_reward(said, call, tools), answer)


def _value(offered: _Offered, rng: np.random.Generator) -> str | int:
    if "city" in offered.parameters["properties"]:
        return CITIES[int(rng.integers(len(CITIES)))]
    return int(rng.integers(2, 100))


def call_reward(said: str, wanted: ToolCall, tools: tuple[ToolDefinition, ...]) -> float:
    """1 for the call that was wanted and nothing else; 0.2 for any one readable call of a tool that was offered.

    A number as text is not that number, and words around the call take everything: the caller would show them.
    """
    reply = parse_reply(said)
    if len(reply.calls) != 1 or reply.text.strip():
        return 0.0
    (call,) = reply.calls
    if call.name not in {tool.name for tool in tools}:
        return 0.0
    is_wanted = call.name == wanted.name and _typed(dict(call.arguments)) == _typed(dict(wanted.arguments))
    return 1.0 if is_wanted else 0.2


def _typed(arguments: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """So that neither True nor 1.0 is 1."""
    return {name: (type(value).__name__, value) for name, value in arguments.items()}
