"""One turn as a row of pieces: text, special tokens by name, pictures and clips, in the order of the model input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from camelid.core.messages import ImagePart, Message, Part, TextPart, ToolCall, VideoPart
from camelid.inputs.chat_style import ChatStyle
from camelid.inputs.tool_calls import CallForm, render_call, render_calls

__all__ = ["Piece", "Special", "join_text", "part_pieces", "trim_system", "turn_pieces"]


@dataclass(frozen=True)
class Special:
    """A special token, named without `<|` and `|>`."""

    name: str


Piece = str | Special | ImagePart | VideoPart


def part_pieces(parts: Sequence[Part]) -> list[Piece]:
    """Parts as they are, text as plain strings."""
    return [part.text if isinstance(part, TextPart) else part for part in parts]


def join_text(pieces: Sequence[Piece]) -> list[Piece]:
    """The same with neighbouring strings as one."""
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def trim_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The same without blanks around the text of a system message at the start."""
    first = messages[0]
    if first.role != "system" or not all(isinstance(part, TextPart) for part in first.parts):
        return messages
    return [replace(first, parts=(TextPart(first.text.strip()),)), *messages[1:]]


def turn_pieces(message: Message, style: ChatStyle, form: CallForm) -> list[Piece]:
    """What follows the blank line after the header, the end token included; raises InputError as `render_call`."""
    pieces = part_pieces(message.parts)
    if message.tool_calls:
        marked: list[Piece] = [Special("python_start"), *pieces, Special("python_end")]
        pieces = marked if form == "json" and style.marks_content else pieces
        return [*pieces, *_call_pieces(message.tool_calls, style, form), Special(style.calls_end)]
    if message.role == "ipython":
        if style.quotes_results:
            runs = join_text(pieces) or [""]
            pieces = [json.dumps(run, ensure_ascii=False) if isinstance(run, str) else run for run in runs]
        return [*pieces, Special(style.results_end)]
    return [*pieces, Special("eot")]


def _call_pieces(calls: Sequence[ToolCall], style: ChatStyle, form: CallForm) -> list[str]:
    if not style.is_one_call_a_piece:
        return [render_calls(calls, form)]
    return [_meta_call(call, form) for call in calls]


def _meta_call(call: ToolCall, form: CallForm) -> str:
    """As Meta's `ToolUtils.encode_tool_call`, but for strings and objects in Python, which Meta leaves broken."""
    if form == "json":
        return json.dumps({"type": "function", "name": call.name, "parameters": dict(call.arguments)})
    if form == "function_tag":
        return f"<function={call.name}>{json.dumps(dict(call.arguments))}</function>"
    return f"[{render_call(call, form)}]"
