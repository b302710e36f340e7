"""Evaluation as a stage: what `camelid eval` asks, of one model, kept as a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from camelid.core import Config, TextPart
from camelid.core.errors import ConfigError
from camelid.core.files import write_text_atomically
from camelid.core.run_dir import RunDir
from camelid.data import StarterPack
from camelid.data.questions.held_out import held_out_prose
from camelid.data.questions.problem import Problem
from camelid.data.questions.problem_sets import PROBLEM_SETS, problem_set
from camelid.eval import Compression, GalleryItem, Score, ask, compression, judge
from camelid.infer import Generator

__all__ = ["EvaluationConfig", "Scorecard", "evaluate", "gallery_of"]

GALLERY = "gallery.json"
Tell = Callable[[int, int], None]
"""How many questions are answered, of how many."""


@dataclass(frozen=True)
class EvaluationConfig(Config):
    """How many problems of each kind (empty: all kinds); with `num_texts`, held-out prose is measured as well.

    `num_shown` of each kind are kept with their pictures and answers. The concepts asked about are those of a
    `concept_share` of the starter pack.
    """

    model: str = ""
    num_problems: int = 200
    kinds: tuple[str, ...] = ()
    num_texts: int = 1000
    concept_share: float = 1.0
    num_shown: int = 2

    def __post_init__(self) -> None:
        if self.num_problems < 1 or self.num_texts < 0 or self.num_shown < 0:
            raise ConfigError(
                f"num_problems must be at least 1, num_texts and num_shown not negative, got {self.num_problems}, "
                f"{self.num_texts} and {self.num_shown}"
            )
        if unknown := set(self.kinds) - set(PROBLEM_SETS):
            raise ConfigError(f"no kind of problem {min(unknown)!r}; there are: {', '.join(PROBLEM_SETS)}")


@dataclass(frozen=True)
class Scorecard(Config):
    """What a model got right, beside its blind twin, and how far it compresses prose that it never saw."""

    scores: tuple[Score, ...]
    prose: Compression | None = None
    schema: Literal["scores/1"] = "scores/1"

    @classmethod
    def of(cls, run: RunDir) -> Scorecard:
        """What a finished evaluation found."""
        return cls.load(run.evals_dir / "scores.json")


def gallery_of(run: RunDir) -> list[GalleryItem]:
    """What a finished evaluation kept with pictures and answers."""
    return [GalleryItem.from_dict(one) for one in json.loads((run.evals_dir / GALLERY).read_text("utf-8"))]


def evaluate(
    config: EvaluationConfig, *, run_root: Path, resume: RunDir | None, tell: Tell = lambda *_: None
) -> RunDir:
    """Asks the model everything; one that was stopped begins anew. ConfigError for another run's configuration."""
    if resume is not None:
        resume.check_config(config)
    pack = _pack(config.concept_share)
    sets, texts = _questions(pack, config.kinds, config.num_problems), _texts(pack, config.num_texts)
    generator = Generator.load(Path(config.model))
    run = resume or RunDir.create(run_root, "eval", Path(config.model).name, config, sys.argv, [config.model])
    run.set_status("running")
    total, done = 2 * sum(len(problems) for _, problems in sets) + len(texts), 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        tell(done, total)

    scores = tuple(judge(generator, name, problems, on_progress=count) for name, problems in sets)
    prose = compression(generator, texts, count) if texts else None
    gallery = [ask(generator, problem) for _, problems in sets for problem in problems[: config.num_shown]]
    run.evals_dir.mkdir(exist_ok=True)
    write_text_atomically(run.evals_dir / GALLERY, json.dumps([item.to_dict() for item in gallery]))
    write_text_atomically(run.evals_dir / "scores.json", Scorecard(scores, prose).to_json() + "\n")
    run.set_status("finished")
    return run


@cache
def _pack(concept_share: float) -> StarterPack:
    return StarterPack.open(concept_share=concept_share)


@cache
def _questions(pack: StarterPack, kinds: tuple[str, ...], count: int) -> list[tuple[str, list[Problem]]]:
    """Made once: a herd is asked the same again and again."""
    return [(name, problem_set(name, pack, count)) for name in kinds or PROBLEM_SETS]


def _texts(pack: StarterPack, count: int) -> Sequence[str]:
    pages = held_out_prose(pack)
    chosen = pages[:: max(1, len(pages) // count)][:count] if count else []
    return ["".join(part.text for part in page.parts if isinstance(part, TextPart)) for page in chosen]
