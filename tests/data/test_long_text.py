"""What is asked about a long text stands in it, once, and is what the answer says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from camelid.core.errors import DataError
from camelid.core.messages import TextPart
from camelid.data import Conversation, StarterPack
from camelid.data.questions.long_text import (
    LongProse,
    Novels,
    Recall,
    Tracking,
    recall_problems,
    tracking_problems,
)
from camelid.data.questions.problem import Problem

NAMES = ("cat", "red apple", "sun", "moon", "boat", "old man", "hat", "tree")


@pytest.fixture(scope="module")
def novels() -> Novels:
    return Novels(StarterPack.open().prose("train"))


def rng(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


def asked_and_answered(conversation: Conversation) -> tuple[str, str]:
    texts = []
    for message in conversation.messages:
        (part,) = message.parts
        assert isinstance(part, TextPart)
        texts.append(part.text)
    return texts[0], texts[1]


def test_windows_have_the_length_that_was_asked_for(novels: Novels) -> None:
    assert len(novels.books) == 4
    assert len(novels.window(0, 50_000)) == 50_000
    longest = max(map(len, novels.books))
    assert len(novels.window(len(novels.starts) - 1, 2 * longest)) == 2 * longest


def test_examples_are_functions_of_their_number_and_stay_in_bounds(novels: Novels) -> None:
    source = LongProse(novels, 1000, 8000)
    lengths = []
    for index in range(40):
        (part,) = source.example(index, rng(index)).parts
        assert source.example(index, rng(index)).parts == (part,)
        assert isinstance(part, TextPart)
        lengths.append(len(part.text))
    assert 900 < min(lengths) < 2000 and 4000 < max(lengths) <= 8000
    with pytest.raises(DataError, match="of 10 to 5 characters"):
        LongProse(novels, 10, 5)


def test_recall_asks_for_a_number_that_is_told_once(novels: Novels) -> None:
    source = Recall(novels, 2000, 4000, names=NAMES)
    for index in range(20):
        text, answer = asked_and_answered(source.example(index, rng(index)))
        name = re.search(r"\n\nWhat is the number of (.+)\?$", text)
        assert name is not None
        assert re.findall(rf"The number of {name[1]} is (\d+)\.", text) == [answer]
        assert len(re.findall(r"The number of .+? is \d+\.", text)) == 6


def test_tracking_follows_from_the_assignments_in_their_order(novels: Novels) -> None:
    source = Tracking(novels, 2000, 4000)
    for index in range(20):
        text, answer = asked_and_answered(source.example(index, rng(index)))
        values: dict[str, str] = {}
        for name, value in re.findall(r"Let ([A-Z]{2}) be (\w+)\.", text):
            values[name] = values.get(value, value)
        assert len(values) == 9 and all(value.isdigit() for value in values.values())
        asked = text.removesuffix("?").rpartition(" ")[2]
        assert values[asked] == answer and len(set(values.values())) == 3


def test_problems_lie_at_every_depth(novels: Novels) -> None:
    problems = recall_problems(novels, NAMES, 6000, 10, seed=3)
    depths = [_depth(problem) for problem in problems]
    assert all(abs(depth - (number + 0.5) / 10) < 0.12 for number, depth in enumerate(depths))
    assert problems == recall_problems(novels, NAMES, 6000, 10, seed=3)
    (problem,) = tracking_problems(novels, 6000, 1, seed=3)
    assert problem.kind == "tracking" and problem.answer.isdigit()


def _depth(problem: Problem) -> float:
    (part,) = problem.messages[0].parts
    assert isinstance(part, TextPart)
    name = part.text.removesuffix("?").rpartition("number of ")[2]
    return part.text.index(f"The number of {name} is {problem.answer}.") / len(part.text)


def test_no_chapter_is_no_novel() -> None:
    with pytest.raises(DataError, match="at least one chapter"):
        Novels(())
