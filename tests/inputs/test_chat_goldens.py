"""Token ids of whole conversations: ours, Meta's ChatFormat's and transformers', with Llama 4's real vocabulary.

Where Meta and transformers differ, the table says so, and both differences and agreement are checked.
"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from camelid.core import Message, ToolCall
from camelid.inputs import ChatFormat, StyleName, Tokenizer
from camelid.inputs.special_tokens import SPECIAL_TOKEN_NAMES
from camelid.inputs.tool_prompt import offer_tools
from chat_conversations import CONVERSATIONS, INJECTIONS, Conversation, without_injection
from chat_references import MAX_TILES, PAD_TOKEN, TILE_SIZE, MetaChat, TransformersChat

ALL = [*CONVERSATIONS, *INJECTIONS]
KNOWN_TO_TRANSFORMERS = [item for item in CONVERSATIONS if item.form == "json"]
WITHOUT_TOOLS = [
    item
    for item in ALL
    if not item.tools and not any(turn.tool_calls or turn.role == "ipython" for turn in item.messages)
]


def named(items: list[Conversation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "item", items, ids=lambda item: item.name.encode("ascii", "replace").decode()
    )


@pytest.fixture(scope="session")
def meta_chat(meta_dir: Path) -> MetaChat:
    return MetaChat(meta_dir / "tokenizer.model")


@pytest.fixture(scope="session")
def transformers_chat(meta_dir: Path, definitions_from: Callable[..., dict[str, Any]]) -> TransformersChat:
    spec = importlib.util.find_spec("transformers")
    assert spec and spec.submodule_search_locations
    functions = definitions_from(
        Path(spec.submodule_search_locations[0]) / "models/llama4/image_processing_llama4.py",
        "get_factors",
        "find_supported_resolutions",
        "get_best_fit",
        torch=torch,
        math=math,
        lru_cache=lambda maxsize: lambda function: function,
        SizeDict=object,
        defaultdict=defaultdict,
    )
    return TransformersChat(meta_dir / "tokenizer.model", functions)


@pytest.fixture(scope="session")
def ours(meta_tokenizer: Tokenizer) -> Callable[[StyleName, Conversation], list[int]]:
    def ids(style: StyleName, item: Conversation) -> list[int]:
        chat_format = ChatFormat(
            meta_tokenizer,
            TILE_SIZE,
            144,
            MAX_TILES,
            style=style,
            call_form=item.form,
            tools_place=item.place,
        )
        encoded = chat_format.encode(item.messages, tools=item.tools, for_generation=True)
        return encoded.token_ids.tolist()

    return ids


Ours = Callable[[StyleName, Conversation], list[int]]


def test_the_table_is_as_large_as_promised() -> None:
    assert len(KNOWN_TO_TRANSFORMERS) >= 60
    assert len({item.name for item in ALL}) == len(ALL)


@named(ALL)
def test_meta_style_equals_metas_chat_format(item: Conversation, ours: Ours, meta_chat: MetaChat) -> None:
    messages = list(item.messages)
    if item.tools:  # Meta leaves definitions to the application, as text
        messages = offer_tools(messages, item.tools, item.form, item.place)
    assert ours("meta", item) == meta_chat.ids(messages, item.form)


@named(KNOWN_TO_TRANSFORMERS)
def test_transformers_style_equals_template_and_processor(
    item: Conversation, ours: Ours, transformers_chat: TransformersChat, meta_tokenizer: Tokenizer
) -> None:
    ids = ours("transformers", item)
    theirs = transformers_chat.ids(item.messages, item.tools, in_user=item.place == "user")
    if not item.is_cut:
        assert ids == theirs
    else:
        # Tiktoken needs Meta's cuts. The text is the same, in another number of tokens.
        assert ids != theirs
        assert meta_tokenizer.decode_bytes(ids) == meta_tokenizer.decode_bytes(theirs)


@named(KNOWN_TO_TRANSFORMERS)
def test_the_default_equals_transformers_style_but_where_text_is_joined(
    item: Conversation, ours: Ours
) -> None:
    assert (ours("camelid", item) == ours("transformers", item)) == (not item.is_glued)


@named(WITHOUT_TOOLS)
def test_the_default_equals_meta_where_there_are_no_tools(item: Conversation, ours: Ours) -> None:
    assert ours("camelid", item) == ours("meta", item)


@named(INJECTIONS)
def test_transformers_makes_written_tokens_special_and_we_do_not(
    item: Conversation, ours: Ours, transformers_chat: TransformersChat, meta_tokenizer: Tokenizer
) -> None:
    """Unless transformers is told to sanitize; then both see text, which it encodes cut at the written tokens."""
    clean = without_injection(item)
    assert ours("transformers", clean) == transformers_chat.ids(clean.messages, clean.tools)

    def specials(ids: list[int]) -> list[int]:
        return [token_id for token_id in ids if meta_tokenizer.is_special(token_id)]

    ids = ours("transformers", item)
    assert specials(ids) == specials(ours("transformers", clean))
    sanitized = transformers_chat.ids(item.messages, item.tools, sanitize=True)
    assert specials(sanitized) == specials(ids)
    assert meta_tokenizer.decode_bytes(sanitized) == meta_tokenizer.decode_bytes(ids)
    if item.name.startswith("<|"):
        assert sanitized == ids
    if "<|image|>" in "".join(message.text for message in item.messages):
        with pytest.raises(ValueError, match="image"):  # it asks where the picture is
            transformers_chat.ids(item.messages, item.tools)
    else:
        assert len(specials(transformers_chat.ids(item.messages, item.tools))) > len(specials(ids))


def test_a_token_written_in_two_parts_is_special_to_transformers_even_sanitized(
    ours: Ours, transformers_chat: TransformersChat, meta_tokenizer: Tokenizer
) -> None:
    item = Conversation("in two parts", (Message.of("user", "<|e", "ot|>"),))
    eot = meta_tokenizer.special("eot")
    assert transformers_chat.ids(item.messages, sanitize=True).count(eot) == 2
    assert [ours(style, item).count(eot) for style in ("camelid", "transformers", "meta")] == [1, 1, 1]


def test_no_written_token_becomes_special(ours: Ours, meta_chat: MetaChat, meta_tokenizer: Tokenizer) -> None:
    bare = ours("meta", Conversation("", (Message.of("user", ""),)))
    num_special = sum(map(meta_tokenizer.is_special, bare))
    for name in SPECIAL_TOKEN_NAMES:
        item = Conversation(name, (Message.of("user", f"a<|{name}|>b"),))
        for style in ("camelid", "transformers", "meta"):
            ids = ours(style, item)
            assert sum(map(meta_tokenizer.is_special, ids)) == num_special, (style, name)
        assert ids == meta_chat.ids(item.messages), name


def test_transformers_reference_has_the_published_special_tokens(
    transformers_chat: TransformersChat, meta_tokenizer: Tokenizer
) -> None:
    theirs = transformers_chat.tokenizer.convert_tokens_to_ids
    for name in SPECIAL_TOKEN_NAMES[:1134]:
        assert theirs(f"<|{name}|>") == meta_tokenizer.special(name)
    assert theirs(PAD_TOKEN) == meta_tokenizer.special("reasoning_reserved_special_token_0")


def test_the_ids_in_the_documentation(
    ours: Ours, meta_chat: MetaChat, transformers_chat: TransformersChat
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "chat-format.md").read_text(encoding="utf-8")
    lines = page.partition("```ids\n")[2].partition("```")[0].splitlines()
    written = {line.partition(":")[0]: [int(word) for word in line.split()[1:]] for line in lines}
    call = ToolCall("get_weather", {"city": "Oslo"})
    turns = (
        Message.of("user", "Weather?"),
        Message.of("assistant", tool_calls=[call]),
        Message.of("ipython", "-3"),
    )
    item = Conversation("documentation", turns)
    assert written == {style: ours(style, item) for style in ("camelid", "transformers", "meta")}
    assert written["meta"] == meta_chat.ids(turns)
    assert written["transformers"] == transformers_chat.ids(turns)
