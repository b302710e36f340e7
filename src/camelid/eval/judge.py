"""Asking problems and scoring the answers, with the blind twin beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from camelid.core import DocumentScorer, MessageCompleter, SamplingParams
from camelid.data.questions.problem import Problem, blind_twins
from camelid.data.questions.problem import is_same_answer as is_right
from camelid.eval.scores import Compression, Score

__all__ = ["compression", "is_right", "judge"]

GREEDY = SamplingParams(max_tokens=32, temperature=0.0)


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


def compression(
    scorer: DocumentScorer, texts: Sequence[str], on_progress: Callable[[int], None] | None = None
) -> Compression:
    """How far the texts can be compressed: comparable between tokenizers, unlike a loss per token."""
    nats = []
    for text in texts:
        nats.append(scorer.document_nats(text))
        if on_progress is not None:
            on_progress(1)
    return Compression.of(nats, [len(text.encode()) for text in texts])
