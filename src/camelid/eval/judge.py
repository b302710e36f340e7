"""Asking problems and scoring the answers, with the blind twin beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from camelid.core import DocumentScorer, MessageCompleter, SamplingParams
from camelid.data.questions.problem import Problem, blind_twins
from camelid.eval.scores import Score

__all__ = ["bits_per_byte", "is_right", "judge"]

GREEDY = SamplingParams(max_tokens=32, temperature=0.0)


def is_right(answer: str, truth: str) -> bool:
    """Exact match but for case, outer blanks and a final full stop."""
    return _plain(answer) == _plain(truth)


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def judge(
    completer: MessageCompleter,
    kind: str,
    problems: Sequence[Problem],
    *,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> Score:
    """Greedy answers to all problems, then to their blind twins; `on_progress` is called after each answer."""

    def count(asked: Sequence[Problem]) -> int:
        num_right = 0
        for problem in asked:
            num_right += is_right(completer.complete(problem.messages, GREEDY).text, problem.answer)
            if on_progress is not None:
                on_progress(1)
        return num_right

    return Score(kind, len(problems), count(problems), count(blind_twins(problems, seed)))


def bits_per_byte(scorer: DocumentScorer, texts: Sequence[str]) -> float:
    """Compression of UTF-8 text, comparable between tokenizers."""
    num_bytes = sum(len(text.encode()) for text in texts)
    return sum(scorer.document_nats(text) for text in texts) / math.log(2) / max(num_bytes, 1)
