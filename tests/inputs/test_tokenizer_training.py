"""Learned vocabularies: tiktoken's encodings must be those of the library that learned them."""

from __future__ import annotations

from pathlib import Path

import pytest

from camelid.core.errors import DataError
from camelid.inputs import Tokenizer
from camelid.inputs.byte_alphabet import byte_of_character
from camelid.inputs.tokenizer_training import _learn, learn_tokenizer

TEXTS = [
    "The camel walks through the desert. The camel's hump isn't water; it's fat. " * 3,
    "Wo ist das Kamel? Das Kamel läuft durch die Wüste, où est le chameau déjà vu? " * 3,
    "骆驼在沙漠里走。ऊँट रेगिस्तान में चलता है। الجمل يمشي في الصحراء. ラクダ 낙타 🐫🐪🏜️ " * 3,
    "def walk(camel):\n    for step in range(1234):\n        camel.walk(step)\n\n\n" * 3,
]
UNSEEN = [
    "A caravan's DESERT  walk\t\n\n  12345 camels — ça va? 🐫🐫 Kamele",
    "\n\n",
    "骆驼走 in the desert's 99 Wüsten",
]


def test_tiktoken_encodes_as_the_learner_does() -> None:
    ranks, learner = _learn(TEXTS, 450)
    tokenizer = Tokenizer(ranks, num_special_tokens=128)
    to_byte = byte_of_character()
    as_bytes = {index: bytes(map(to_byte.__getitem__, token)) for token, index in learner.get_vocab().items()}
    for text in TEXTS + UNSEEN:
        theirs = [as_bytes[index] for index in learner.encode(text).ids]
        assert [tokenizer.decode_bytes([token_id]) for token_id in tokenizer.encode(text)] == theirs
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ranks_are_the_bytes_then_the_merges() -> None:
    ranks = learn_tokenizer(TEXTS, 400)
    assert list(ranks.values()) == list(range(400))
    assert list(ranks)[:256] == [bytes([value]) for value in range(256)]
    assert all(len(token) > 1 for token in list(ranks)[256:])
    assert b" camel" in ranks


def test_the_same_texts_give_the_same_file(tmp_path: Path) -> None:
    for name in ("first", "second"):
        Tokenizer(learn_tokenizer(iter(TEXTS), 450), 128).save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_too_little_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"hold only \d+ of 5000 tokens"):
        learn_tokenizer(["a short text"], 5000)
    with pytest.raises(DataError, match="at least the 256 bytes, got 255"):
        learn_tokenizer(TEXTS, 255)
