"""Intervals against published values, judging against a scripted completer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from camelid.core import Completion, Message, SamplingParams, Usage
from camelid.data.questions.problem import Problem
from camelid.eval import Score, compression, is_right, judge, wilson_interval


def test_wilson_interval_matches_newcombe_1998() -> None:
    # Newcombe (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for right, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(right, total) == pytest.approx((low, high), abs=1e-4)


def test_nothing_asked_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert Score("none", 0, 0, 0).accuracy == 0.0


@pytest.mark.parametrize(
    ("answer", "expected"), [("cat", True), (" Cat.", True), ("cats", False), ("a cat", False), ("", False)]
)
def test_only_case_blanks_and_full_stop_are_forgiven(answer: str, expected: bool) -> None:
    assert is_right(answer, "cat") is expected


class Parrot:
    """Answers with the last word of the question."""

    def complete(self, messages: Sequence[Message], sampling: SamplingParams) -> Completion:
        assert sampling.temperature == 0
        return Completion(messages[-1].text.split()[-1], (), "stop", Usage(0, 0))


def test_judge_counts_problems_and_twins() -> None:
    problems = [
        Problem((Message.of("user", f"say {word}"),), answer, "parrot")
        for word, answer in (("yes", "yes"), ("no", "no"), ("maybe", "never"))
    ]
    calls: list[int] = []
    score = judge(Parrot(), "parrot", problems, on_progress=calls.append)
    # The twins differ in pictures only, and there are none here: the parrot is as right blind.
    assert score == Score("parrot", 3, 2, 2)
    assert sum(calls) == 6


class Uniform:
    """Gives every byte the same probability."""

    def document_nats(self, text: str) -> float:
        return len(text.encode()) * math.log(256)


def test_bits_per_byte_of_a_uniform_byte_model_is_eight() -> None:
    measured = compression(Uniform(), ["abc", "déjà vu"])
    assert (measured.num_documents, measured.bits_per_byte) == (2, pytest.approx(8.0))
    assert (measured.low, measured.high) == (pytest.approx(8.0), pytest.approx(8.0))
