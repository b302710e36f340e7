"""Calls of offered tools as a grammar: what an answer must be when it has to be a call."""

from __future__ import annotations

import json
from collections.abc import Sequence

from camelid.core import Constraint
from camelid.core.errors import InputError
from camelid.core.messages import ToolDefinition

__all__ = ["call_constraint"]

# Blanks as json.dumps writes them, by llguidance's own key in a schema.
_STYLE = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


def call_constraint(tools: Sequence[ToolDefinition], *, has_many: bool = True) -> Constraint:
    """One call, or several end to end, in the form `json`, which readers of replies know whatever the prompt asks for.

    Each schema stays a document of its own, so that its references mean what they did. Raises InputError for
    parameters that are no object.
    """
    rules = ["start: call+" if has_many else "start: call"]
    for index, tool in enumerate(tools):
        kind = tool.parameters.get("type", "object")
        if kind != "object":
            raise InputError(
                f"the parameters of {tool.name} are of the type {kind!r}, a call's are an object"
            )
        schema = json.dumps({**tool.parameters, "type": "object"} | _STYLE, ensure_ascii=False)
        start = json.dumps(f'{{"name": {json.dumps(tool.name)}, "parameters": ')
        rules.append(f'call{index}: {start} arguments{index} "}}"\narguments{index}: %json {schema}')
    rules.append(f"call: {' | '.join(f'call{index}' for index in range(len(tools)))}")
    return Constraint("grammar", "\n".join(rules))
