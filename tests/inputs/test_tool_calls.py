"""Calls as text and back: three forms, and nothing evaluated."""

from __future__ import annotations

import ast
import json
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.core import ToolCall
from camelid.core.errors import InputError
from camelid.inputs.tool_calls import (
    CallForm,
    read_json,
    read_pythonic,
    read_tagged,
    render_call,
    render_calls,
)

CALLS = [
    ToolCall("get_weather", {"city": "Oslo", "days": 3}),
    ToolCall("plot", {"x": [1, -2.5, []], "style": {"red": True, "note": None}}),
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
words = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
calls = st.lists(
    st.builds(
        ToolCall,
        words.filter(lambda word: not keyword.iskeyword(word)),
        st.dictionaries(
            words | st.sampled_from(["from", "class", "None", "été", "城市"]), values, max_size=4
        ),
    ),
    min_size=1,
    max_size=3,
)


def test_the_three_forms() -> None:
    assert render_calls(CALLS, "pythonic") == (
        '[get_weather(city="Oslo", days=3), plot(x=[1, -2.5, []], style={"red": True, "note": None})]'
    )
    assert (
        render_calls(CALLS[:1], "json")
        == '{"name": "get_weather", "parameters": {"city": "Oslo", "days": 3}}'
    )
    assert render_calls(CALLS[:1] * 2, "json").count('}}{"name"') == 1
    assert (
        render_call(CALLS[0], "function_tag")
        == '<function=get_weather>{"city": "Oslo", "days": 3}</function>'
    )


@given(calls)
def test_what_is_rendered_is_read_back(made: list[ToolCall]) -> None:
    assert read_pythonic(render_calls(made, "pythonic")) == made
    assert [read_json(render_call(call, "json")) for call in made] == [[call] for call in made]
    for call in made:
        arguments = render_call(call, "function_tag").partition(">")[2].removesuffix("</function>")
        assert read_tagged(call.name, arguments) == [call]


@given(calls)
def test_what_is_rendered_in_python_is_python(made: list[ToolCall]) -> None:
    """By the interpreter's own reading, which knows no keywords as names of arguments."""
    if any(keyword.iskeyword(key) for call in made for key in call.arguments):
        return
    tree = ast.parse(render_calls(made, "pythonic"), mode="eval").body
    assert isinstance(tree, ast.List)
    for node, call in zip(tree.elts, made, strict=True):
        assert isinstance(node, ast.Call)
        assert {word.arg: ast.literal_eval(word.value) for word in node.keywords} == call.arguments


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[f()]", {}),
        ("[ f ( a = 'x' , ) ]", {"a": "x"}),
        ("[f(a='it\\'s', b=\"\\u00e9\\x41\\n\")]", {"a": "it's", "b": "éA\n"}),
        ('[f(a="\\d+\\777")]', {"a": "\\d+\\777"}),
        ('[f(a="two\nlines\r\n")]', {"a": "two\nlines\r\n"}),
        ("[f(a='one' 'two')]", {"a": "onetwo"}),
        ("[f(a=true, b=false, c=null, d=True, e=None)]", {"a": True, "b": False, "c": None, "d": True, "e": None}),
        ("[f(a=-1, b=+2, c=1e3, d=0x1F, e=.5, g=1.)]", {"a": -1, "b": 2, "c": 1000.0, "d": 31, "e": 0.5, "g": 1.0}),
        ("[f(a=(1, 2), b=[], c={'k': {'l': ()}})]", {"a": [1, 2], "b": [], "c": {"k": {"l": []}}}),
        ("[f(from='LAX', to='JFK', lambda=1, a=[{'in': 'x'}])]",
         {"from": "LAX", "to": "JFK", "lambda": 1, "a": [{"in": "x"}]}),
        ("[f(a_keyword=1, class=2)]", {"a_keyword": 1, "class": 2}),
    ],
)  # fmt: skip
def test_python_as_models_write_it(text: str, arguments: dict[str, object]) -> None:
    assert read_pythonic(text) == [ToolCall("f", arguments)]


def test_names_with_dots() -> None:
    assert read_pythonic("[math.stats.mean(x=[1])]") == [ToolCall("math.stats.mean", {"x": [1]})]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "f()", "[f]", "[f(1)]", "[f(*a)]", "[f(**{'a': 1})]", "[f(a=b)]", "[f(a=g())]", "[f(a=1+2)]",
        "[f(a=1, a=2)]", "[f(a=b'x')]", "[f(a=f'x')]", "[f(a=r'x')]", "[f(a=1j)]", "[f(a=1if 2else 3)]",
        "[f(a={1, 2})]", "[f(a={1: 2})]", "[f(a={**{}})]", "[f(a=...)]", "[f(a=-True)]", "[f(a=-'x')]",
        "[f(a=[x for x in y])]", "[f(a=lambda: 1)]", "[f(a:=1)]", "[f(a=1e999)]", "[f(a='x)]", "[f(a='\\N{no}')]",
        "[f(a=x.y)]", "[f()(a=1)]", "[f()[0](a=1)]", "['f'(a=1)]", "[f(a=1)] # why", "[f(a=1)]\n[g()]",
        "[f(a=007)]", "[f(a=" + "9" * 5000 + ")]", "[été(a=1)]", "[f(a=__import__('os').system('x'))]",
        "[f(a=" + "[" * 3000 + "]" * 3000 + ")]",
    ],
)  # fmt: skip
def test_what_is_more_than_literals_is_no_call(text: str) -> None:
    assert read_pythonic(text) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('{"name": "f", "parameters": {}}', 1),
        ('{"type": "function", "name": "f", "parameters": {"a": [1]}}', 1),
        ('{"name": "f", "arguments": {"a": "two\nlines"}}', 1),
        ('[{"name": "f", "parameters": {}}, {"name": "g", "parameters": {}}]', 2),
    ],
)
def test_json_as_models_write_it(text: str, count: int) -> None:
    found = read_json(text)
    assert found is not None and len(found) == count
    assert found[0].name == "f"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "3", "null", '"name"', '{"name": "f"}', '{"parameters": {}}',
        '{"name": 3, "parameters": {}}', '{"name": "", "parameters": {}}', '{"name": "a b", "parameters": {}}',
        '{"name": "f", "parameters": []}', '{"name": "f", "parameters": "{}"}', '{"name": "f", "parameters": null}',
        '{"name": "f", "parameters": {}, "arguments": {}}', '{"name": "f", "parameters": {}, "id": 3}',
        '{"type": "tool", "name": "f", "parameters": {}}', '{"name": "f", "parameters": {"a": NaN}}',
        '{"name": "f", "parameters": {"a": 1e999}}', '{"name": "f", "parameters": {}}{}', "{'name': 'f'}",
        '[{"name": "f", "parameters": {}}, 3]', '{"name": "f", "parameters": ' + '{"a": ' * 9000,
    ],
)  # fmt: skip
def test_json_that_is_no_call(text: str) -> None:
    assert read_json(text) is None


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": NaN}', "{", "{}{}"])
def test_tags_around_no_arguments(text: str) -> None:
    assert read_tagged("f", text) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (ToolCall("get-weather", {}), "'get-weather' cannot be called in Python's syntax"),
        (ToolCall("3d", {}), "'3d' cannot"),
        (ToolCall("if", {}), "'if' cannot"),
        (ToolCall("a..b", {}), "'a..b' cannot"),
        (ToolCall("f", {"a b": 1}), "f: 'a b' is no argument"),
        (ToolCall("f", {"ﬁ": 1}), "'ﬁ' is no argument"),
    ],
)
def test_python_has_no_word_for_everything(call: ToolCall, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render_call(call, "pythonic")
    forms: tuple[CallForm, ...] = ("json", "function_tag")
    assert all(
        json.dumps(dict(call.arguments), ensure_ascii=False) in render_call(call, form) for form in forms
    )
