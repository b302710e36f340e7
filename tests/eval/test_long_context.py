"""Recall by length and loss by position, of completers that answer by rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from camelid.core import Completion, Message, SamplingParams, TextPart, Usage
from camelid.core.errors import ConfigError
from camelid.data.questions.problem import Problem
from camelid.eval import LongContextReport, loss_by_position, score_by_length


class Forgetful:
    """Knows the last hundred characters, and is the more surprised the longer a text goes on."""

    def complete(self, messages: Sequence[Message], sampling: SamplingParams) -> Completion:
        (part,) = messages[0].parts
        assert isinstance(part, TextPart)
        answer = "7" if "7" in part.text[-100:] else "?"
        return Completion(answer, (), "stop", Usage(len(part.text), 1))

    def token_nats(self, text: str) -> list[float]:
        return [float(place) for place in range(len(text))]


def problem(length: int) -> Problem:
    return Problem((Message.of("user", "7" + "." * (length - 1)),), "7", "recall")


def test_the_score_falls_where_the_memory_ends() -> None:
    counted: list[int] = []
    problems = {length: [problem(length)] * 4 for length in (400, 50, 100)}
    scores = score_by_length(Forgetful(), "recall", problems, counted.append)
    assert [(s.length, s.accuracy, s.mean_tokens) for s in scores] == [
        (50, 1, 50),
        (100, 1, 100),
        (400, 0, 400),
    ]
    assert sum(counted) == 12 and scores[0].interval[1] == 1.0


def test_losses_are_means_over_what_lies_in_a_bucket() -> None:
    losses = loss_by_position(Forgetful(), ["x" * 10, "x" * 4], [0, 2, 8, 20, 40])
    assert [(loss.start, loss.end, loss.num_tokens) for loss in losses] == [(0, 2, 4), (2, 8, 8), (8, 20, 2)]
    assert [loss.nats_per_token for loss in losses] == [0.5, (2 + 3 + 4 + 5 + 6 + 7 + 2 + 3) / 8, 8.5]
    report = LongContextReport((), losses)
    assert LongContextReport.from_json(report.to_json()) == report
    with pytest.raises(ConfigError, match=r"must rise, got \[4, 2\]"):
        loss_by_position(Forgetful(), [], [4, 2])
