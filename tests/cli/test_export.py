"""`camelid export`, read back by transformers: weights, vocabulary, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerFast

from camelid.checkpoint import load_model
from camelid.checkpoint.train_state import refuse_selection_bias
from camelid.cli.main import main
from camelid.core import TextPart
from camelid.infer.locate import SHIPPED_MODEL
from camelid.inputs import ChatFormat, Tokenizer
from camelid.inputs.hf_tokenizer_files import tokenizer_json
from chat_conversations import ASKED, CONVERSATIONS, ONE, WEATHER, Conversation
from chat_references import their_message, their_tool

TEXTS = (
    "", "Hello world", "don't Don'T", "1234567 12 345", "  \n\tdéjà vu 😀", "你好世界 नमस्ते สวัสดี مرحبا", "a" * 300,
    "def f(x):\n    return x**2\n", " \u00a0\u2003 x", "👩‍👩‍👧‍👦🇫🇷", "\r\n\r\n/ // ///",
    "ſtraße ﬁ Ⅷ", "zzzz qqqq xjxj vwvw",
)  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model."""
    path = tmp_path_factory.mktemp("export") / "model"
    assert main(["export", str(path), "--model", str(SHIPPED_MODEL)]) == 0
    return path


@pytest.fixture(scope="module")
def theirs(exported: Path) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(exported)
    return tokenizer


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    vocab_size = load_model(SHIPPED_MODEL).config.text.vocab_size
    return Tokenizer.from_file(SHIPPED_MODEL / "tokenizer.model", vocab_size=vocab_size)


def test_text_has_the_same_ids(ours: Tokenizer, theirs: PreTrainedTokenizerFast) -> None:
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == ours.encode(text), text
        assert theirs.decode(ids) == text
    assert theirs("x")["input_ids"] == [ours.special("begin_of_text"), *ours.encode("x")]
    assert theirs.vocab_size + len(theirs.get_added_vocab()) >= ours.vocab_size
    assert theirs.convert_tokens_to_ids("<|patch|>") == ours.special("patch")


EXPRESSIBLE = [
    item
    for item in CONVERSATIONS
    if item.form == "json"
    and not item.is_glued
    and not item.is_cut
    and all(isinstance(part, TextPart) for message in item.messages for part in message.parts)
]


@pytest.mark.parametrize("item", EXPRESSIBLE, ids=lambda item: item.name.encode("ascii", "replace").decode())
def test_conversations_have_the_same_ids(
    item: Conversation, ours: Tokenizer, theirs: PreTrainedTokenizerFast
) -> None:
    chat_format = ChatFormat(ours, tools_place=item.place)
    found = theirs.apply_chat_template(
        [their_message(message) for message in item.messages],
        tools=[their_tool(tool) for tool in item.tools] or None,
        add_generation_prompt=True,
        return_dict=False,
        tools_in_user_message=item.place == "user",
    )
    expected = chat_format.encode(item.messages, tools=item.tools, for_generation=True)
    assert found == expected.token_ids.tolist()


def test_most_conversations_are_compared() -> None:
    assert len([item for item in EXPRESSIBLE if item.tools]) >= 8
    assert len([item for item in EXPRESSIBLE if any(turn.tool_calls for turn in item.messages)]) >= 9


def test_tools_in_a_system_turn_that_is_made_for_them(
    ours: Tokenizer, theirs: PreTrainedTokenizerFast
) -> None:
    """Where transformers' own template drops them."""
    found = theirs.apply_chat_template(
        [their_message(ASKED)], tools=[their_tool(WEATHER)], return_dict=False, tools_in_user_message=False
    )
    expected = ChatFormat(ours, tools_place="system").encode([ASKED], tools=[WEATHER])
    assert found == expected.token_ids.tolist()


def test_the_template_shows_pictures(theirs: PreTrainedTokenizerFast) -> None:
    content = [{"type": "image"}, {"type": "text", "text": " What? "}]
    turns = [{"role": "user", "content": content}]
    text = theirs.apply_chat_template(turns, tokenize=False)
    assert text == "<|begin_of_text|><|header_start|>user<|header_end|>\n\n<|image|> What? <|eot|>"
    text = theirs.apply_chat_template(turns, tools=[their_tool(WEATHER)], tokenize=False)
    assert "Given the following functions" in text
    assert text.endswith("}\n\n<|image|> What? <|eot|>")


@pytest.mark.parametrize(
    ("turns", "options", "message"),
    [
        ([their_message(ONE)], {"tools": [their_tool(WEATHER)]}, "which must open the talk"),
        ([{"role": "system", "content": "x"}], {"tools": [their_tool(WEATHER)]}, "which must open the talk"),
        ([their_message(ASKED)], {"documents": [{"title": "x", "text": "y"}]}, "no place for documents"),
        ([their_message(ONE) | {"role": "user"}], {}, "only the assistant calls tools"),
        ([{"role": "developer", "content": "x"}], {}, "not developer"),
        ([{"role": "user", "content": [{"type": "video"}]}], {}, "types text and image"),
        ([{"role": "tool", "content": {"sky": "grey"}}], {}, "answered is text"),
        ([{"role": "tool", "content": {}}], {}, "answered is text"),
        ([{"role": "tool", "content": [{"type": "image"}]}], {}, "answered is text"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
            {},
            "an object, not text",
        ),
    ],
)
def test_what_the_template_cannot_write_it_refuses(
    turns: list[dict[str, Any]], options: dict[str, Any], message: str, theirs: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(Exception, match=message):
        theirs.apply_chat_template(turns, tokenize=False, **options)


@torch.no_grad()
def test_the_model_answers_alike(exported: Path, ours: Tokenizer, theirs: PreTrainedTokenizerFast) -> None:
    peer = AutoModelForImageTextToText.from_pretrained(exported, dtype=torch.float32)
    ids = theirs("Once upon a time", return_tensors="pt")["input_ids"]
    model = load_model(SHIPPED_MODEL)
    expected = model.logits(model(ids[0]).hidden)
    torch.testing.assert_close(peer(ids).logits[0], expected, atol=1e-4, rtol=0)
    assert set(peer.generation_config.eos_token_id) == set(ours.stop_ids)


def test_llama_4s_own_vocabulary(tmp_path: Path) -> None:
    """All 200,000 tokens: each is one token of itself, and texts have the same ids."""
    import llama_models.llama4
    from tokenizers import Tokenizer as BpeTokenizer

    ours = Tokenizer.from_file(Path(llama_models.llama4.__file__).parent / "tokenizer.model")
    theirs = BpeTokenizer.from_str(tokenizer_json(ours))
    assert theirs.get_vocab_size() == ours.vocab_size == 202_048
    for text in TEXTS:
        assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text), text
    licence = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    assert theirs.encode(licence, add_special_tokens=False).ids == ours.encode(licence)


def test_what_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    assert main(["export", str(tmp_path / "out"), "--model", str(SHIPPED_MODEL)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_checkpoint_whose_routers_need_a_bias_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run by loss-free bias, stopped before it let go; one whose biases are back at zero passes that check."""
    checkpoint = tmp_path / "step-4"
    checkpoint.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        (checkpoint / name).symlink_to(SHIPPED_MODEL / name)
    biases = {"0|selection_bias": torch.zeros(16), "2|selection_bias": torch.full((16,), -0.25)}
    save_file(biases, checkpoint / "optim.safetensors")
    assert main(["export", str(tmp_path / "out"), "--model", str(checkpoint)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "the routers of 1 layers choose by a bias (up to 0.25)" in said
    assert not (tmp_path / "out").exists()
    save_file({"0|selection_bias": torch.zeros(16)}, checkpoint / "optim.safetensors")
    refuse_selection_bias(checkpoint)
    refuse_selection_bias(SHIPPED_MODEL)
