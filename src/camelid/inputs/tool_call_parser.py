"""What a model says, told apart while it comes in: text to show, and the calls of tools at its end.

A reply is text and then, up to its end, calls in any of the three forms, with blanks, commas, semicolons and
`<|python_start|>` or `<|python_end|>` between them. `<|python_start|>text<|python_end|>` and calls is the same, as
transformers' template writes it. Whatever else follows a call makes text of it, to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from camelid.core.messages import ToolCall
from camelid.inputs.tool_calls import read_json, read_pythonic, read_tagged

__all__ = ["ParsedReply", "ToolCallParser", "parse_reply"]

PYTHON_START, PYTHON_END = "<|python_start|>", "<|python_end|>"
FUNCTION, FUNCTION_END = "<function=", "</function>"
JSON_KEYS = ('"name"', '"type"', '"parameters"', '"arguments"')

# A bound on the time that hostile text can cost: each bracket in it could be the start of a call.
MAX_DEPTH = 64

_START = re.compile(r"[\[{<]")
_BETWEEN = re.compile(r"[\s,;]*")
_BLANK = re.compile(r"\s*")
_TAG_NAME = re.compile(r"[\w.-]*")
_PYTHON_NAME = re.compile(r"[\w.]*")
_PLAIN = re.compile(r"[\w\s.,:=+-]*")
_INSIDE = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_CLOSES = {"[": "]", "{": "}", "(": ")"}


@dataclass(frozen=True)
class ParsedReply:
    """A reply taken apart: what to show, and what to run."""

    text: str
    calls: tuple[ToolCall, ...]


def parse_reply(text: str) -> ParsedReply:
    """A reply that is all there."""
    parser = ToolCallParser()
    shown = parser.feed(text)
    rest = parser.finish()
    return ParsedReply(shown + rest.text, rest.calls)


class _NotCalls(Exception):
    """No calls up to the end: what stands before this position is text after all."""

    def __init__(self, position: int) -> None:
        self.position = position


_Step = Generator[None, None, int]


class ToolCallParser:
    """Takes a reply in pieces of any size; where it is cut makes no difference to what comes out.

    The grammar stands in generators that pause wherever the text ends too early to tell.
    """

    def __init__(self) -> None:
        self._held = ""
        self._done = 0  # so much of it is shown
        self._shown: list[str] = []
        self._calls: tuple[ToolCall, ...] = ()
        self._is_finished = False
        self._reading = self._read()

    def feed(self, text: str) -> str:
        """The text that may be shown now; what may yet become a call is held back."""
        assert not self._is_finished, "this reply has been finished"
        self._held += text
        next(self._reading)
        return self._take()

    def finish(self) -> ParsedReply:
        """The end of the reply: the text held back until now, or the calls."""
        assert not self._is_finished, "this reply has been finished"
        self._is_finished = True
        for _ in self._reading:
            raise AssertionError("the reader waits for more after the end")
        return ParsedReply(self._take(), self._calls)

    def _take(self) -> str:
        shown = "".join(self._shown)
        self._shown.clear()
        return shown

    def _show_to(self, position: int) -> None:
        self._shown.append(self._held[self._done : position])
        self._done = position

    def _read(self) -> Generator[None, None, None]:
        while True:
            start = _START.search(self._held, self._done)
            self._show_to(start.start() if start else len(self._held))
            if start:
                try:
                    self._calls = yield from self._reply_end(self._done)
                except _NotCalls as failed:
                    self._show_to(max(failed.position, self._done + 1))
                else:
                    return
            elif self._is_finished:
                return
            else:
                self._held, self._done = "", 0
                yield

    def _reply_end(self, start: int) -> Generator[None, None, tuple[ToolCall, ...]]:
        """Calls from here to the end of the reply. Text that Python's markers set before them is shown."""
        calls: list[ToolCall] = []
        marker_length = yield from self._literal(start, PYTHON_START)
        start += marker_length
        try:
            yield from self._run(start, calls)
        except _NotCalls as failed:
            if not marker_length:
                raise
            calls.clear()
            try:
                end = yield from self._find(PYTHON_END, start)
                yield from self._run(end + len(PYTHON_END), calls)
            except _NotCalls:
                raise failed from None
            self._shown.append(self._held[start:end])
        return tuple(calls)

    def _run(self, position: int, calls: list[ToolCall]) -> _Step:
        """Calls up to the end, at least one."""
        while True:
            position = yield from self._between(position)
            if not (yield from self._has(position)):
                if not calls:
                    raise _NotCalls(position)
                return position
            try:
                position = yield from self._item(position, calls)
            except _NotCalls:
                raise _NotCalls(position) from None

    def _between(self, position: int) -> _Step:
        """Over blanks, separators and Python's markers."""
        while True:
            position = yield from self._over(_BETWEEN, position)
            length = yield from self._literal(position, PYTHON_START, PYTHON_END)
            if not length:
                return position
            position += length

    def _item(self, start: int, calls: list[ToolCall]) -> _Step:
        """One call, one array of calls or one list of Python's calls."""
        found: list[ToolCall] | None = None
        end = start
        first = self._held[start]
        if first == "<":
            if (yield from self._literal(start, FUNCTION)):
                name_start = start + len(FUNCTION)
                name_end = yield from self._over(_TAG_NAME, name_start)
                yield from self._expect(name_end, ">")
                yield from self._expect(name_end + 1, "{")
                body_end = yield from self._balanced(name_end + 1, '"')
                found = read_tagged(self._held[name_start:name_end], self._held[name_end + 1 : body_end])
                end = yield from self._over(_BLANK, body_end)
                end += yield from self._literal(end, FUNCTION_END)
        elif first == "{":
            yield from self._expect_json_call(start)
            end = yield from self._balanced(start, '"')
            found = read_json(self._held[start:end])
        elif first == "[":
            inner = yield from self._over(_BLANK, start + 1)
            if (yield from self._has(inner)) and self._held[inner] == "{":
                yield from self._expect_json_call(inner)
                end = yield from self._balanced(start, '"')
                found = read_json(self._held[start:end])
            else:
                yield from self._expect_python_call(inner)
                end = yield from self._balanced(start, "\"'")
                found = read_pythonic(self._held[start:end])
        if found is None:
            raise _NotCalls(start)
        calls += found
        return end

    def _expect_json_call(self, brace: int) -> _Step:
        """So that most braces are known for text after a few letters."""
        key = yield from self._over(_BLANK, brace + 1)
        if not (yield from self._literal(key, *JSON_KEYS)):
            raise _NotCalls(brace)
        return key

    def _expect_python_call(self, start: int) -> _Step:
        """A name, a parenthesis, and what may follow it: the name of an argument and `=`, or the end."""
        if not (yield from self._has(start)) or not self._held[start].isidentifier():
            raise _NotCalls(start)
        name_end = yield from self._over(_PYTHON_NAME, start)
        opening = yield from self._over(_BLANK, name_end)
        yield from self._expect(opening, "(")
        argument = yield from self._over(_BLANK, opening + 1)
        argument_end = yield from self._over(_PYTHON_NAME, argument)
        equals = yield from self._over(_BLANK, argument_end)
        yield from self._expect(equals, ")" if argument_end == argument else "=")
        return equals

    def _balanced(self, position: int, quotes: str) -> _Step:
        """The end of a bracket. Outside of strings only what literals are made of may stand."""
        expected: list[str] = []
        while True:
            position = yield from self._over(_PLAIN, position)
            if not (yield from self._has(position)):
                raise _NotCalls(position)
            letter = self._held[position]
            if letter in quotes:
                position = yield from self._string(position)
                continue
            position += 1
            if letter in _CLOSES and len(expected) < MAX_DEPTH:
                expected.append(_CLOSES[letter])
            elif not expected or letter != expected.pop():
                raise _NotCalls(position)
            elif not expected:
                return position

    def _string(self, start: int) -> _Step:
        """The end of a string, which line breaks do not end."""
        quote, position = self._held[start], start + 1
        while True:
            position = yield from self._over(_INSIDE[quote], position)
            if not (yield from self._has(position + (self._held[position : position + 1] != quote))):
                raise _NotCalls(position)
            if self._held[position] == quote:
                return position + 1
            position += 2  # a backslash and what it escapes

    def _expect(self, position: int, letter: str) -> _Step:
        if not (yield from self._has(position)) or self._held[position] != letter:
            raise _NotCalls(position)
        return position + 1

    def _find(self, literal: str, position: int) -> _Step:
        """Where a literal stands; _NotCalls if nowhere."""
        while (found := self._held.find(literal, position)) < 0:
            position = max(position, len(self._held) - len(literal) + 1)
            if self._is_finished:
                raise _NotCalls(position)
            yield
        return found

    def _over(self, pattern: re.Pattern[str], position: int) -> _Step:
        """Past all that the pattern repeats; it must match nothing too."""
        while True:
            match = pattern.match(self._held, position)
            assert match is not None
            position = match.end()
            if self._is_finished or position < len(self._held):
                return position
            yield

    def _literal(self, position: int, *literals: str) -> _Step:
        """The length of the literal that stands here, 0 if none does."""
        while True:
            here = self._held[position : position + max(map(len, literals))]
            for literal in literals:
                if here.startswith(literal):
                    return len(literal)
            if self._is_finished or not any(literal.startswith(here) for literal in literals):
                return 0
            yield

    def _has(self, position: int) -> Generator[None, None, bool]:
        """Whether there is a character at a position, once that is known."""
        while position >= len(self._held):
            if self._is_finished:
                return False
            yield
        return True
