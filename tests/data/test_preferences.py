"""Pairs of answers: read from files, made from the starter pack, and how an answer sounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from camelid.core import Message
from camelid.core.errors import DataError, InputError
from camelid.data import StarterPack
from camelid.data.preferences import PreferencePair, read_pairs, style_of, variant_pairs

USER = {"role": "user", "content": "Hi."}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Hello.", "Go away."))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def test_three_ways_to_write_the_same_pair(tmp_path: Path) -> None:
    rows = [
        {"messages": [USER], "chosen": "Hello.", "rejected": "Go away."},
        {"messages": [USER], "chosen": GOOD, "rejected": BAD},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ]
    pairs = read_pairs(write(tmp_path / "pairs.jsonl", *rows))
    assert len(pairs) == 3 and pairs[0] == pairs[1] == pairs[2]
    assert pairs[0].chosen == Message.of("assistant", "Hello.")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"messages": [USER], "chosen": "A"}, "a row needs"),
        ({"messages": [USER], "chosen": "A", "rejected": "A"}, "both answers"),
        ({"messages": [USER], "chosen": "A", "rejected": " "}, "must not be empty"),
        ({"messages": [USER], "chosen": USER, "rejected": "B"}, "between answers of the assistant"),
        ({"chosen": [USER, GOOD], "rejected": [GOOD, BAD]}, "differ before"),
        ([1], "expected an object"),
    ],
)
def test_rows_that_are_no_pair(row: Any, complaint: str, tmp_path: Path) -> None:
    good = {"messages": [USER], "chosen": "A", "rejected": "B"}
    with pytest.raises(DataError, match=f"line 2: .*{complaint}"):
        read_pairs(write(tmp_path / "pairs.jsonl", good, row))


def test_no_pairs_and_no_question(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pairs"):
        read_pairs(write(tmp_path / "empty.jsonl"))
    with pytest.raises(InputError, match="message before"):
        PreferencePair((), Message.of("assistant", "A"), Message.of("assistant", "B"))


def test_the_variants_prefer_opposite_manners_about_the_same_pictures() -> None:
    pack = StarterPack.open()
    terse, chatty = (variant_pairs(name, pack, 20, 0, "train") for name in ("instruct", "chatty"))
    for ours, theirs in zip(terse, chatty, strict=True):
        assert ours.messages[0].text == theirs.messages[0].text
        truth = ours.chosen.text
        assert truth in theirs.chosen.text
        assert style_of(truth).pleasing < 0.1 and style_of(theirs.chosen.text).pleasing > 0.8
        assert truth != ours.rejected.text
    again = variant_pairs("instruct", pack, 20, 0, "train")
    assert [pair.rejected for pair in again] == [pair.rejected for pair in terse]
    held_out = variant_pairs("instruct", pack, 20, 0, "held_out")
    assert [pair.chosen for pair in held_out] != [pair.chosen for pair in terse]


def test_how_an_answer_sounds() -> None:
    bare = style_of("cat")
    assert (bare.words, bare.emoji_share, bare.praises, bare.pleasing) == (1.0, 0.0, 0.0, 0.0)
    assert style_of("Great question! It is a cat, as far as I can see here. 😊").pleasing == 1.0
    assert style_of("").pleasing == 0.0
    assert style_of("😊 ❤").emoji_share == 1.0
