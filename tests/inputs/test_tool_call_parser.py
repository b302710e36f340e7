"""Replies taken apart while they come in: the same for every way of cutting them, and nothing lost."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.core import ToolCall
from camelid.inputs import ParsedReply, ToolCallParser, parse_reply, render_calls
from camelid.inputs.tool_call_parser import MAX_DEPTH
from camelid.inputs.tool_calls import CallForm

F, G = ToolCall("f", {"a": "x"}), ToolCall("g", {"n": 3})
PYTHON, JSON_F, JSON_G = (
    '[f(a="x"), g(n=3)]',
    '{"name": "f", "parameters": {"a": "x"}}',
    '{"name": "g", "parameters": {"n": 3}}',
)
TAG_F = '<function=f>{"a": "x"}</function>'

CALLS = [
    (PYTHON, "", (F, G)),
    (JSON_F, "", (F,)),
    (JSON_F + JSON_G, "", (F, G)),
    (f"{JSON_F};\n{JSON_G}\n", "", (F, G)),
    (f"[{JSON_F}, {JSON_G}]", "", (F, G)),
    (TAG_F, "", (F,)),
    (f"{TAG_F}\n<function=g>{{\"n\": 3}}", "", (F, G)),
    (f"<|python_start|>{PYTHON}<|python_end|>", "", (F, G)),
    (f"<|python_start|>{PYTHON}", "", (F, G)),
    (f"<|python_start|>{TAG_F}<|python_end|><|python_start|>{JSON_G}<|python_end|>\n", "", (F, G)),
    (f"<|python_start|><|python_end|>{JSON_F}{JSON_G}", "", (F, G)),
    (f"<|python_start|>Let me [see]: {{}}<|python_end|>{JSON_F}", "Let me [see]: {}", (F,)),
    (f"<|python_start|>{PYTHON} is it<|python_end|>{JSON_F}", f"{PYTHON} is it", (F,)),
    (f"  \n{PYTHON}", "  \n", (F, G)),
    (f"Let me look.\n\n{PYTHON}\n", "Let me look.\n\n", (F, G)),
    (f"1 < 2, [so]{JSON_F}", "1 < 2, [so]", (F,)),
    (f"{JSON_F} and then {JSON_G}", f"{JSON_F} and then ", (G,)),
    (f"Well. <|python_start|>{JSON_F}<|python_end|>", "Well. ", (F,)),
    ('[f(a="\'[{(<|python_end|>\\"")]', "", (ToolCall("f", {"a": "'[{(<|python_end|>\""}),)),
    ('{"name": "f", "parameters": {"a": "}\\"]\\\\"}}', "", (ToolCall("f", {"a": '}"]\\'}),)),
    ("[f3.g_(a=1)]", "", (ToolCall("f3.g_", {"a": 1}),)),
]  # fmt: skip

TEXTS = [
    "", " ", "Hello.", "[", "[]", "{}", "<", "<<", "<|", "<|python_start|>", "<|python_end|>", "a < b", "<function=",
    "<function=f>", "<function=f>{", "<function=f>{}x", "<function=f g>{}</function>", "[1] says so", "[a](b)",
    "[f(", "[f(a", "[f(a=", '[f(a="', '[f(a="x"', '[f(a="x")', "[f(a==1)]", "[f(1)]", "[f(a=b)]", "[[f(a=1)]]",
    "[(f(a=1)]", "[f(a=1}]", "if x: [f(x) for x in y]", '{"name"', '{"name": "f"}', '{"names": 1}', '{"a": {}}',
    '{"name": "f", "parameters": {"a": 1}', '{"name": "f", "parameters": {"a": oops}}', f"{PYTHON}.",
    f"Write {PYTHON} and stop.", f"```json\n{JSON_F}\n```", f"{JSON_F}{JSON_G} done", f"<|python_start|>{PYTHON} x",
    "<|python_start|>print(1)<|python_end|>", "<|python_start|>a<|python_end|>b", f"{TAG_F} done", "[f(a=1)] \\",
    "<|python_start|><|python_start|>a<|python_end|>", "{{{", "[[[", "[f(a=1), g(b=)]",
]  # fmt: skip


def parse_in_pieces(text: str, cuts: Sequence[int]) -> ParsedReply:
    parser = ToolCallParser()
    edges = [0, *sorted(cuts), len(text)]
    shown = "".join(parser.feed(text[start:end]) for start, end in pairwise(edges))
    rest = parser.finish()
    return ParsedReply(shown + rest.text, rest.calls)


@pytest.mark.parametrize(("text", "shown", "calls"), CALLS)
def test_calls_are_found(text: str, shown: str, calls: tuple[ToolCall, ...]) -> None:
    assert parse_reply(text) == ParsedReply(shown, calls)


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_out_as_it_went_in(text: str) -> None:
    assert parse_reply(text) == ParsedReply(text, ())


@pytest.mark.parametrize("text", [text for text, *_ in CALLS] + TEXTS)
def test_every_single_cut_and_all_of_them_make_no_difference(text: str) -> None:
    whole = parse_reply(text)
    assert all(parse_in_pieces(text, [cut]) == whole for cut in range(len(text) + 1))
    assert parse_in_pieces(text, range(len(text))) == whole


FRAGMENTS = st.sampled_from(
    [text for text, *_ in CALLS] + TEXTS + list("[](){}<>|=,:;\"'\\ \nfg1") + ["<|python_start|>", "<|python_end|>"]
)  # fmt: skip


@given(st.data(), st.lists(FRAGMENTS | st.text(max_size=5), max_size=6).map("".join))
def test_any_cuts_make_no_difference(data: st.DataObject, text: str) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12))
    whole = parse_reply(text)
    assert parse_in_pieces(text, cuts) == whole
    if not whole.calls:
        assert whole.text == text


@given(
    st.text(st.characters(exclude_characters="[{<"), max_size=50),
    st.sampled_from(["json", "pythonic", "function_tag"]),
)
def test_text_and_rendered_calls_come_apart(text: str, form: CallForm) -> None:
    assert parse_reply(text + render_calls([F, G], form)) == ParsedReply(text, (F, G))


def test_text_is_shown_as_soon_as_it_cannot_be_a_call() -> None:
    parser = ToolCallParser()
    fed = ["Hi ", "[", "1", "] {", '"na', "me", "s", "<|", "p", "ot ", "[f(a=", "1)]"]
    assert [parser.feed(piece) for piece in fed] == [
        "Hi ", "", "[1", "] ", "", "", '{"names', "", "", "<|pot ", "", "",
    ]  # fmt: skip
    assert parser.finish() == ParsedReply("", (ToolCall("f", {"a": 1}),))


def test_a_finished_reply_takes_no_more() -> None:
    parser = ToolCallParser()
    parser.finish()
    with pytest.raises(AssertionError, match="finished"):
        parser.feed("a")
    with pytest.raises(AssertionError, match="finished"):
        parser.finish()


@pytest.mark.parametrize(
    "unit",
    ["[", "{", "<", "[f(a=", '[f(a="[f(a=\'', '{"name":', '{"name": "f", "parameters": {"a": ', "<|python_start|>",
     "<|python_start|>x", '[f(a="\\', "<function=f>{", JSON_F, '[f(a=1)]', "[a", "<|python_start|><|python_end|>"],
)  # fmt: skip
def test_hostile_text_costs_linear_time(unit: str) -> None:
    """Each bracket could be the start of a call; how deep they may nest bounds how often a letter is read."""

    class Counting(ToolCallParser):
        num_read = 0

        def _over(self, pattern: re.Pattern[str], position: int) -> Generator[None, None, int]:
            end = yield from super()._over(pattern, position)
            self.num_read += end - position + 1
            return end

    text = unit * (6_000 // len(unit)) + "."
    parser = Counting()
    assert parser.feed(text) + parser.finish().text == text
    assert parser.num_read < 4 * MAX_DEPTH * len(text)
