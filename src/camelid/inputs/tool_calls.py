"""Calls of tools as text, in the three forms that Llama 4 knows, and back again.

json          {"name": "f", "parameters": {"a": "x"}}
pythonic      [f(a="x"), g(n=3)]
function_tag  <function=f>{"a": "x"}</function>

What a model wrote is never evaluated: Python's own parser makes a tree of it, and only literals are taken from
that. Sources: Meta's prompt format for Llama 4 (pythonic), Meta's `ToolUtils` in llama-models 0.3.0 (all three).
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from camelid.core.errors import InputError
from camelid.core.messages import ToolCall

__all__ = ["CallForm", "read_json", "read_pythonic", "read_tagged", "render_call", "render_calls"]

CallForm = Literal["json", "pythonic", "function_tag"]

# Outside of these a literal needs nothing. Numbers may not run into a word, nor words into a string: `1if`, `f""`.
_TOKEN = re.compile(
    r"""(?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' )
      | (?P<number> (?: 0[xX][0-9a-fA-F]+ | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? ) (?!\w) )
      | (?P<name> [^\W\d]\w* (?!["']) )
      | (?P<other> \s+ | [\[\](){},:=.+-] )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)|[\r\n]", re.DOTALL)
_EQUALS = re.compile(r"\s*=")
_JSON_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_JSON_KEYS = {"type", "name", "parameters", "arguments"}


def render_call(call: ToolCall, form: CallForm) -> str:
    """One call; raises InputError for a name or an argument that Python's syntax has no word for."""
    if form == "json":
        return json.dumps({"name": call.name, "parameters": dict(call.arguments)}, ensure_ascii=False)
    if form == "function_tag":
        return f"<function={call.name}>{json.dumps(dict(call.arguments), ensure_ascii=False)}</function>"
    words = call.name.split(".")
    if not all(word.isidentifier() and not keyword.iskeyword(word) for word in words):
        raise InputError(f"the tool {call.name!r} cannot be called in Python's syntax; use the json form")
    for key in call.arguments:
        if not key.isidentifier() or unicodedata.normalize("NFKC", key) != key:
            raise InputError(f"{call.name}: {key!r} is no argument in Python's syntax; use the json form")
    arguments = ", ".join(f"{key}={_python_literal(value)}" for key, value in call.arguments.items())
    return f"{call.name}({arguments})"


def render_calls(calls: Sequence[ToolCall], form: CallForm) -> str:
    """All calls of a message: Python's in one list, the others end to end, as their templates have them."""
    rendered = [render_call(call, form) for call in calls]
    return f"[{', '.join(rendered)}]" if form == "pythonic" else "".join(rendered)


def _python_literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # every escape of JSON is one of Python's
    if isinstance(value, list):
        return f"[{', '.join(map(_python_literal, value))}]"
    if isinstance(value, Mapping):
        items = (f"{_python_literal(key)}: {_python_literal(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    return repr(value)


def read_pythonic(text: str) -> list[ToolCall] | None:
    """`[f(a="x"), g(n=3)]`: keyword arguments that are literals. None for anything else.

    Beyond Python: JSON's true, false and null; line breaks within a string; keywords as names of arguments.
    """
    marker = "_keyword"
    while marker in text:
        marker += "_"
    source = _tame(text, marker)
    if source is None:
        return None
    try:
        tree = ast.parse(source, mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return None
        return [_python_call(node, marker) for node in tree.elts]
    except (
        SyntaxError,
        ValueError,
        MemoryError,
        RecursionError,
    ):  # InputError and _NotLiteral are ValueErrors
        return None


class _NotLiteral(ValueError):
    """A tree that is more than literals."""


def _tame(text: str, marker: str) -> str | None:
    """The same with nothing that Python would refuse or warn of without need; None if it is no call at all."""
    pieces: list[str] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        position = token.end()
        piece = token[0]
        if token["string"]:
            piece = _ESCAPE.sub(_tame_escape, piece)
        elif token["name"] and keyword.iskeyword(piece) and _EQUALS.match(text, position):
            piece += marker
        pieces.append(piece)
    return "".join(pieces)


def _tame_escape(match: re.Match[str]) -> str:
    escaped = match[1]
    if escaped is None:
        return repr(match[0])[1:-1]
    is_known = int(escaped, 8) < 256 if escaped[0] in "01234567" else escaped in "\\'\"abfnrtvxuUN\n"
    return match[0] if is_known else "\\" + match[0]


def _python_call(node: ast.expr, marker: str) -> ToolCall:
    if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
        raise _NotLiteral
    arguments = {str(word.arg).removesuffix(marker): _literal(word.value) for word in node.keywords}
    if len(arguments) < len(node.keywords):
        raise _NotLiteral
    return ToolCall(_dotted_name(node.func), arguments)


def _dotted_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise _NotLiteral


def _literal(node: ast.expr | None) -> Any:
    """What JSON can say of a tree; ToolCall refuses the rest, such as bytes."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in _JSON_WORDS:
        return _JSON_WORDS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _literal(node.operand)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    raise _NotLiteral


def read_json(text: str) -> list[ToolCall] | None:
    """`{"name": …, "parameters": {…}}` or an array of such; `arguments` and `"type": "function"` pass too."""
    value = _load_json(text)
    items = value if isinstance(value, list) else [value]
    if not items or not all(_is_json_call(item) for item in items):
        return None
    try:
        return [
            ToolCall(item["name"], item.get("parameters") or item.get("arguments") or {}) for item in items
        ]
    except InputError:
        return None


def read_tagged(name: str, text: str) -> list[ToolCall] | None:
    """The call in `<function=NAME>TEXT</function>`."""
    arguments = _load_json(text)
    try:
        return [ToolCall(name, arguments)] if isinstance(arguments, dict) else None
    except InputError:
        return None


def _load_json(text: str) -> Any:
    """None for what is no JSON. Line breaks within a string are let pass: models write them."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _is_json_call(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.keys() <= _JSON_KEYS
        and isinstance(item.get("name"), str)
        and item.get("type", "function") == "function"
        and [isinstance(item[key], dict) for key in ("parameters", "arguments") if key in item] == [True]
    )
