"""Tools are offered to the model: definitions and how to answer, as text for the system or the first user turn.

The words for JSON are those of transformers' template, which the model has to be shown unchanged; for the other
two forms Meta documents a shape (a JSON array, schemas of type `dict`) and leaves the words to the application.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from camelid.core.errors import InputError
from camelid.core.messages import Message, TextPart, ToolDefinition
from camelid.inputs.tool_calls import CallForm

__all__ = ["ToolsPlace", "offer_tools"]

ToolsPlace = Literal["system", "user"]

_JSON_FORMAT = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
_JSON_INTRODUCTION: dict[ToolsPlace, str] = {
    "system": (
        "You have access to the following functions. "
        "To call a function, please respond with JSON for a function call."
    ),
    "user": (
        "Given the following functions, please respond with a JSON for a function call "
        "with its proper arguments that best answers the given prompt.\n\n"
    ),
}
_INTRODUCTION: dict[CallForm, str] = {
    "pythonic": (
        "Some requests need one of the functions below. Then answer with nothing but a list of calls in Python's "
        'syntax, with keyword arguments and literal values, such as [first(city="Oslo"), second(days=3)]. '
        "If an argument is missing, ask for it. If no function fits, answer in words.\n\nFunctions in JSON:\n"
    ),
    "function_tag": (
        "Some requests need one of the functions below. Then answer with nothing but calls of this shape: "
        '<function=NAME>{"argument": "value"}</function>. '
        "If an argument is missing, ask for it. If no function fits, answer in words.\n\nFunctions in JSON:\n"
    ),
}
_SCHEMA_LISTS, _SCHEMA_MAPS = ("anyOf", "oneOf", "allOf", "prefixItems"), ("properties", "$defs")


def offer_tools(
    messages: Sequence[Message], tools: Sequence[ToolDefinition], form: CallForm, place: ToolsPlace
) -> list[Message]:
    """The messages with the tools in the system message, which is made if there is none, or in the user's first.

    As in transformers' template, the text behind the tools loses the blanks around it, and with JSON a system
    message begins with the environment. Raises InputError if the tools must stand with a user and the
    conversation does not begin with one.
    """
    rest = list(messages)
    system = rest.pop(0) if rest and rest[0].role == "system" else None
    text = _tools_text(tools, form, place)
    environment = "Environment: ipython\n" if form == "json" else ""
    if place == "system":
        return [_behind(environment + text, system or Message.of("system")), *rest]
    if not rest or rest[0].role != "user":
        found = f"one of the {rest[0].role}" if rest else "nothing"
        raise InputError(f"tools stand with the user's first message, which must open the talk; got {found}")
    rest[0] = _behind(text, rest[0])
    return rest if system is None else [_behind(environment, system), *rest]


def _behind(prefix: str, message: Message) -> Message:
    if all(isinstance(part, TextPart) for part in message.parts):
        return replace(message, parts=(TextPart(prefix + message.text.strip()),))
    return replace(message, parts=(TextPart(prefix), *message.parts))


def _tools_text(tools: Sequence[ToolDefinition], form: CallForm, place: ToolsPlace) -> str:
    """What stands before the text of the turn at `place`; it ends in a blank line."""
    if form == "json":
        definitions = [_dump({"type": "function", "function": _definition(tool)}) for tool in tools]
        return _JSON_INTRODUCTION[place] + _JSON_FORMAT + "".join(text + "\n\n" for text in definitions)
    listed = [_definition(tool) | {"parameters": _as_dict_type(tool.parameters)} for tool in tools]
    return f"{_INTRODUCTION[form]}{_dump(listed)}\n\n"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=4)


def _definition(tool: ToolDefinition) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _as_dict_type(schema: Any) -> Any:
    """A JSON schema whose objects are of type `dict`."""
    if not isinstance(schema, Mapping):
        return schema
    changed = dict(schema)
    if changed.get("type") == "object":
        changed["type"] = "dict"
    for key in _SCHEMA_MAPS:
        if isinstance(changed.get(key), Mapping):
            changed[key] = {name: _as_dict_type(item) for name, item in changed[key].items()}
    for key in _SCHEMA_LISTS:
        if isinstance(changed.get(key), list):
            changed[key] = [_as_dict_type(item) for item in changed[key]]
    for key in ("items", "additionalProperties"):
        if key in changed:
            changed[key] = _as_dict_type(changed[key])
    return changed
