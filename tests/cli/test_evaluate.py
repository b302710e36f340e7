"""Scores as `camelid eval` tells them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from camelid.cli import evaluate, model_choice
from camelid.core import ImagePart, Message
from camelid.data.questions import problem_sets
from camelid.data.questions.problem import Problem
from camelid.data.starter import StarterPack
from camelid.testing import ScriptedGenerator

COLOURS = ("red", "blue")


def seeing(messages: Sequence[Message]) -> str:
    """Answers with what the picture is called."""
    picture = next(part for part in messages[0].parts if isinstance(part, ImagePart))
    assert isinstance(picture.source, bytes)
    return picture.source.decode()


def make_problems(pack: StarterPack | None, count: int) -> list[Problem]:
    return [
        Problem(
            (Message.of("user", ImagePart(COLOURS[i % 2].encode()), "Colour?"),), COLOURS[i % 2], "colour"
        )
        for i in range(count)
    ]


def test_a_model_that_sees_scores_and_its_blind_twin_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(problem_sets, "PROBLEM_SETS", {"colour": make_problems})
    monkeypatch.setattr(evaluate, "PROBLEM_SETS", {"colour": make_problems})
    monkeypatch.setattr(model_choice, "load_model", lambda named: ScriptedGenerator(seeing))
    monkeypatch.setattr(StarterPack, "open", lambda **_: StarterPack.__new__(StarterPack))
    evaluate.evaluate(None, 10, (), tmp_path / "scores.json")
    assert "10 of 10" in capsys.readouterr().out
    (score,) = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert (score["num_problems"], score["num_right"], score["num_right_blind"]) == (10, 10, 0)


def test_the_table_has_intervals() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(evaluate.score_table([evaluate.Score("colour", 100, 50, 20)]))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for expected in ("50 of 100", "50.0%", "40.4% – 59.6%", "20.0%"):
        assert expected in text
