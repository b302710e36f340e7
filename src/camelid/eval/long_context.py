"""How far a model can look back: recall by length, and loss by position. Reached through a completer alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from camelid.core import Config, MessageCompleter, TokenScorer
from camelid.core.errors import ConfigError
from camelid.data.questions.problem import Problem
from camelid.eval.judge import GREEDY, is_right
from camelid.eval.scores import wilson_interval

__all__ = ["LengthScore", "LongContextReport", "PositionLoss", "loss_by_position", "score_by_length"]


@dataclass(frozen=True)
class LengthScore(Config):
    """Right answers at one length; `mean_tokens` is that of the prompts, by the model's own tokenizer."""

    kind: str
    length: int
    mean_tokens: float
    num_problems: int
    num_right: int

    @property
    def accuracy(self) -> float:
        return self.num_right / self.num_problems

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.num_right, self.num_problems)


@dataclass(frozen=True)
class PositionLoss(Config):
    """Mean nats of the tokens at positions start <= p < end of all texts."""

    start: int
    end: int
    nats_per_token: float
    num_tokens: int


@dataclass(frozen=True)
class LongContextReport(Config):
    """What was measured of one model."""

    scores: tuple[LengthScore, ...]
    losses: tuple[PositionLoss, ...]
    schema: str = "long-context/1"


def score_by_length(
    completer: MessageCompleter,
    kind: str,
    problems: Mapping[int, Sequence[Problem]],
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[LengthScore, ...]:
    """Greedy answers to the problems of each length; `on_progress` is called after each."""
    scores = []
    for length, asked in sorted(problems.items()):
        num_right, num_tokens = 0, 0
        for problem in asked:
            completion = completer.complete(problem.messages, GREEDY)
            num_right += is_right(completion.text, problem.answer)
            num_tokens += completion.usage.prompt_tokens
            on_progress(1)
        scores.append(LengthScore(kind, length, num_tokens / len(asked), len(asked), num_right))
    return tuple(scores)


def loss_by_position(
    scorer: TokenScorer, texts: Sequence[str], edges: Sequence[int]
) -> tuple[PositionLoss, ...]:
    """Buckets between neighbouring edges, those without any token left out. ConfigError for unordered edges."""
    if len(edges) < 2 or list(edges) != sorted(set(edges)):
        raise ConfigError(f"edges of position buckets must rise, got {list(edges)}")
    sums, counts = [0.0] * (len(edges) - 1), [0] * (len(edges) - 1)
    for text in texts:
        nats = scorer.token_nats(text)
        for bucket, (start, end) in enumerate(pairwise(edges)):
            sums[bucket] += sum(nats[start:end])
            counts[bucket] += len(nats[start:end])
    return tuple(
        PositionLoss(start, end, total / count, count)
        for (start, end), total, count in zip(pairwise(edges), sums, counts, strict=True)
        if count
    )
