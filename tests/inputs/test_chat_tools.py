"""Tools in a conversation: where they stand, how calls and results are written, what counts in the loss."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from PIL import Image

from camelid.core import ImagePart, Message, ToolCall, ToolDefinition
from camelid.core.errors import InputError
from camelid.inputs import ChatFormat, StyleName, Tokenizer, parse_reply

F, G = ToolCall("f", {"a": "é"}), ToolCall("g", {"n": 3})
TOOL = ToolDefinition("f", "Does é.", {"type": "object", "properties": {"a": {"type": "string"}}})
ASKED, RESULT = Message.of("user", " Do. "), Message.of("ipython", 'é "done"\n')
CALLED = Message.of("assistant", "So: ", tool_calls=[F, G])
NESTED = ToolDefinition(
    "f",
    "",
    {
        "type": "object",
        "default": {"type": "object"},
        "properties": {"type": {"type": "object"}, "l": {"type": "array", "items": {"type": "object"}}},
        "anyOf": [{"type": "object", "$defs": {"x": {"type": "object"}}}],
    },
)


def shown(tokenizer: Tokenizer, *messages: Message, tools: Any = (), **options: Any) -> str:
    """The text of the model input, without the beginning."""
    ids = ChatFormat(tokenizer, **options).encode(messages, tools=tools).token_ids.tolist()
    return tokenizer.decode(ids).removeprefix("<|begin_of_text|>")


def turn(role: str, text: str, end: str = "eot") -> str:
    return f"<|header_start|>{role}<|header_end|>\n\n{text}<|{end}|>"


@pytest.mark.parametrize("style", ["camelid", "transformers"])
def test_json_calls_and_results(tokenizer: Tokenizer, style: StyleName) -> None:
    assert shown(tokenizer, CALLED, RESULT, style=style) == turn(
        "assistant",
        '<|python_start|>So: <|python_end|>{"name": "f", "parameters": {"a": "é"}}'
        '{"name": "g", "parameters": {"n": 3}}',
    ) + turn("ipython", '"é \\"done\\"\\n"')


def test_metas_calls_and_results(tokenizer: Tokenizer) -> None:
    assert shown(tokenizer, CALLED, RESULT, style="meta") == turn(
        "assistant",
        'So: {"type": "function", "name": "f", "parameters": {"a": "\\u00e9"}}'
        '{"type": "function", "name": "g", "parameters": {"n": 3}}',
        "eom",
    ) + turn("ipython", 'é "done"\n', "eom")


@pytest.mark.parametrize(
    ("style", "form", "text", "end"),
    [
        ("camelid", "pythonic", 'So: [f(a="é"), g(n=3)]', "eot"),
        ("meta", "pythonic", 'So: [f(a="é")][g(n=3)]', "eom"),
        ("camelid", "function_tag", 'So: <function=f>{"a": "é"}</function><function=g>{"n": 3}</function>', "eot"),
        ("meta", "function_tag", 'So: <function=f>{"a": "\\u00e9"}</function><function=g>{"n": 3}</function>', "eom"),
    ],
)  # fmt: skip
def test_the_other_forms(tokenizer: Tokenizer, style: str, form: str, text: str, end: str) -> None:
    assert shown(tokenizer, CALLED, style=style, call_form=form) == turn("assistant", text, end)


@pytest.mark.parametrize("style", ["camelid", "transformers", "meta"])
@pytest.mark.parametrize("form", ["json", "pythonic", "function_tag"])
def test_a_reply_parses_into_the_message_that_was_encoded(
    tokenizer: Tokenizer, style: str, form: str
) -> None:
    text = shown(tokenizer, CALLED, style=style, call_form=form)
    reply = parse_reply(text.partition("\n\n")[2].removesuffix("<|eot|>").removesuffix("<|eom|>"))
    assert (reply.text, reply.calls) == ("So: ", (F, G))


def test_what_meta_writes_in_python_and_cannot_read_back_is_written_as_python(tokenizer: Tokenizer) -> None:
    call = ToolCall("f", {"a": 'say "hi"\n', "b": {"k": [1]}})
    text = shown(tokenizer, Message.of("assistant", tool_calls=[call]), style="meta", call_form="pythonic")
    assert text == turn("assistant", r'[f(a="say \"hi\"\n", b={"k": [1]})]', "eom")


def test_tools_stand_with_the_user(tokenizer: Tokenizer) -> None:
    text = shown(tokenizer, Message.of("system", " Be brief.\n"), ASKED, ASKED, tools=[TOOL])
    system, user, again = text.split("<|eot|>")[:3]
    assert system.endswith("system<|header_end|>\n\nEnvironment: ipython\nBe brief.")
    assert user.startswith("<|header_start|>user<|header_end|>\n\nGiven the following functions")
    function = {"name": "f", "description": "Does é.", "parameters": TOOL.parameters}
    schema = json.dumps({"type": "function", "function": function}, indent=4, ensure_ascii=False)
    assert user.endswith(f"Do not use variables.\n\n{schema}\n\nDo.")
    assert again.endswith("\n\n Do. ")


def test_tools_stand_in_the_system_message(tokenizer: Tokenizer) -> None:
    text = shown(tokenizer, ASKED, tools=[TOOL], tools_place="system")
    system, user = text.split("<|eot|>")[:2]
    assert system.startswith("<|header_start|>system<|header_end|>\n\nEnvironment: ipython\nYou have access")
    assert user.endswith("\n\n Do. ")


@pytest.mark.parametrize("form", ["pythonic", "function_tag"])
def test_tools_in_the_other_forms(tokenizer: Tokenizer, form: str) -> None:
    text = shown(tokenizer, Message.of("system", "Be brief."), ASKED, tools=[TOOL, NESTED], call_form=form)
    system, user = text.split("<|eot|>")[:2]
    assert "Environment" not in text
    example = '[first(city="Oslo"), second(days=3)]' if form == "pythonic" else "<function=NAME>"
    assert example in system
    assert system.endswith("]\n\nBe brief.")
    listed = json.loads(system.partition("Functions in JSON:\n")[2].removesuffix("Be brief."))
    assert [item["name"] for item in listed] == ["f", "f"]
    assert listed[0]["parameters"] == {"type": "dict", "properties": {"a": {"type": "string"}}}
    assert listed[1]["parameters"] == {
        "type": "dict",
        "default": {"type": "object"},
        "properties": {"type": {"type": "dict"}, "l": {"type": "array", "items": {"type": "dict"}}},
        "anyOf": [{"type": "dict", "$defs": {"x": {"type": "dict"}}}],
    }
    assert user.endswith("\n\n Do. ")


def test_tools_and_a_picture(chat_format: ChatFormat, tokenizer: Tokenizer) -> None:
    """Transformers' template writes the list of parts as Python here; ours keeps the picture a picture."""
    image = ImagePart(Image.new("RGB", (8, 8)))
    item = chat_format.encode([Message.of("user", image, " Do. ")], tools=[TOOL])
    text = tokenizer.decode(item.token_ids.tolist())
    assert "}\n\n<|image_start|><|image|><|patch|>" in text
    assert text.endswith("<|image_end|> Do. <|eot|>")
    assert item.tiles.shape[0] == 1


@pytest.mark.parametrize("messages", [[Message.of("system", "s")], [CALLED, ASKED]])
def test_tools_need_a_user_to_stand_with(tokenizer: Tokenizer, messages: list[Message]) -> None:
    with pytest.raises(InputError, match="tools stand with the user's first message"):
        ChatFormat(tokenizer).encode(messages, tools=[TOOL])
    ChatFormat(tokenizer, tools_place="system").encode(messages, tools=[TOOL])


@pytest.mark.parametrize("style", ["camelid", "transformers", "meta"])
def test_the_loss_is_on_calls_and_their_end_not_on_results(tokenizer: Tokenizer, style: StyleName) -> None:
    chat_format = ChatFormat(tokenizer, style=style)
    item = chat_format.encode([ASKED, CALLED, RESULT, Message.of("assistant", "\nOk")], tools=[TOOL])
    said = tokenizer.decode(item.token_ids[item.loss_weights > 0].tolist())
    called = tokenizer.decode(chat_format.encode([CALLED]).token_ids.tolist()).partition("\n\n")[2]
    assert said == f"{called}\nOk<|eot|>"


def test_joined_text_counts_where_a_token_has_some_of_it(meta_tokenizer: Tokenizer) -> None:
    item = ChatFormat(meta_tokenizer, style="transformers").encode([Message.of("assistant", "\nOk")])
    assert meta_tokenizer.decode(item.token_ids[item.loss_weights > 0].tolist()) == "\n\n\nOk<|eot|>"
    plain = Message.of("assistant", "Ok")
    items = [
        ChatFormat(meta_tokenizer, style=style).encode([plain])
        for style in ("camelid", "transformers", "meta")
    ]
    assert all(torch.equal(item.loss_weights, items[0].loss_weights) for item in items)


def test_for_model_passes_the_style_on(tokenizer: Tokenizer) -> None:
    chat_format = ChatFormat.for_model(tokenizer, None, style="meta", call_form="pythonic")
    text = tokenizer.decode(chat_format.encode([CALLED]).token_ids.tolist())
    assert text.endswith('[f(a="é")][g(n=3)]<|eom|>')
    assert chat_format.tools_place == "system"
