"""Leaving out examples that a model can already do: what is easy teaches nothing and wears the model down.

Meta dropped half of its fine-tuning data for Scout and Maverick and 95 % for Behemoth, by a model's judgement of
difficulty (the Llama 4 announcement). Here the base's own loss judges, or whether it would give the very answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from camelid.core import Batch, Config, ModelInput
from camelid.core.errors import ConfigError, DataError, InputError
from camelid.core.run_dir import RunDir
from camelid.data import Conversation, Example, Source
from camelid.data.epochs import epoch_order
from camelid.data.loader import example_rng
from camelid.inputs import ChatFormat
from camelid.model import Llama4
from camelid.stages.starting_point import StartingPoint

__all__ = ["Difficulty", "FilterConfig", "HardExamples", "difficulty", "without_easy"]

NOTE = "filter"


@dataclass(frozen=True)
class FilterConfig(Config):
    """Of the scored examples the `keep` hardest share is kept, by nats per token that counts.

    By `answer`, examples whose every token that counts is the base's first choice, so that it would answer just so,
    are left out before. `num_scored` examples are drawn of sources without an end; of others all are scored.
    """

    keep: float = 0.5
    by: Literal["loss", "answer"] = "loss"
    num_scored: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or self.num_scored < 1:
            raise ConfigError(
                f"keep {self.keep} must be above 0 and at most 1, and num_scored {self.num_scored} at least 1"
            )


@dataclass(frozen=True)
class Difficulty:
    """What a model makes of one example: nats per token that counts, and whether it would say just that."""

    nats: float
    is_solved: bool


class HardExamples:
    """Some draws of another source, in shuffled epochs."""

    def __init__(self, source: Source, draws: Sequence[int], seed: int) -> None:
        self.name, self._source, self._draws, self._seed = source.name, source, tuple(draws), seed

    def __len__(self) -> int:
        return len(self._draws)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """As the source gave it when it was scored."""
        draw = self._draws[epoch_order(len(self), index, self._seed)]
        return self._source.example(draw, example_rng(self._seed, draw))


def without_easy(
    weights: Mapping[Source, float],
    config: FilterConfig,
    start: StartingPoint,
    max_tokens: int,
    seed: int,
    run: RunDir,
) -> dict[Source, float]:
    """The same mixture of the harder examples. The run's notes say how many were dropped, and keep the choice.

    Raises DataError where nothing of a source is left.
    """
    notes = dict(run.notes().get(NOTE, {}))
    kept: dict[Source, float] = {}
    for source, weight in weights.items():
        if source.name not in notes:
            notes[source.name] = _choose(source, config, start, max_tokens, seed)
            run.note(**{NOTE: notes})
        note = notes[source.name]
        if not note["draws"]:
            raise DataError(
                f"source {source.name!r}: the model can do all of its {note['num_scored']} examples"
            )
        kept[HardExamples(source, note["draws"], seed)] = weight
    return kept


def _choose(
    source: Source, config: FilterConfig, start: StartingPoint, max_tokens: int, seed: int
) -> dict[str, object]:
    """Scores a source; which draws are kept, and the numbers."""
    count = len(source) if isinstance(source, Sized) else config.num_scored
    scores: dict[int, Difficulty] = {}
    for draw in range(count):
        try:
            example = source.example(draw, example_rng(seed, draw))
            encoded = _encode(example, start.chat_format)
        except (InputError, DataError):
            continue
        if len(encoded) <= max_tokens and bool((encoded.loss_weights[1:] > 0).any()):
            scores[draw] = difficulty(start.model, encoded)
    unsolved = [draw for draw, score in scores.items() if config.by == "loss" or not score.is_solved]
    unsolved.sort(key=lambda draw: -scores[draw].nats)
    draws = sorted(unsolved[: max(1, round(config.keep * len(scores)))])
    return {
        "num_scored": len(scores),
        "num_unusable": count - len(scores),
        "num_solved": sum(score.is_solved for score in scores.values()),
        "num_dropped": len(scores) - len(draws),
        "draws": draws,
    }


def _encode(example: Example, chat_format: ChatFormat) -> ModelInput:
    if isinstance(example, Conversation):
        return chat_format.encode(example.messages)
    return chat_format.encode_document(example.parts)


@torch.no_grad()
def difficulty(model: Llama4, encoded: ModelInput) -> Difficulty:
    """One forward pass. Teacher-forced first choices are greedy decoding, as long as they are all right."""
    batch = Batch.pack([replace(encoded, loss_weights=encoded.loss_weights.clone())])
    batch = batch.to(model.language_model.head_weight.device)
    output = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
    rows = batch.loss_weights.nonzero()[:, 0]
    logits, targets = model.logits(output.hidden[rows]).float(), batch.target_ids[rows]
    return Difficulty(float(F.cross_entropy(logits, targets)), bool((logits.argmax(-1) == targets).all()))
