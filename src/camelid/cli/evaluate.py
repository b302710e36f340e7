"""`camelid eval`: scores on what was held out, with intervals, beside the blind twin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from camelid.cli import model_choice
from camelid.core import DocumentScorer, MessageCompleter, TextPart
from camelid.core.files import write_text_atomically
from camelid.data.questions.held_out import held_out_prose
from camelid.data.questions.problem_sets import PROBLEM_SETS, problem_set
from camelid.data.starter import StarterPack
from camelid.eval import Compression, Score, compression, judge

__all__ = ["evaluate", "judge_sets", "measure_prose", "score_table"]


def evaluate(
    model: Path | None,
    num_problems: int,
    names: Sequence[str],
    json_path: Path | None,
    concept_share: float = 1.0,
) -> None:
    """Loads a model, asks everything, prints the table and, if asked to, writes the scores as JSON.

    Without `names` held-out prose is measured, too.
    """
    pack = StarterPack.open(concept_share=concept_share)
    completer = model_choice.load_model(model)
    scores = judge_sets(completer, pack, names or tuple(PROBLEM_SETS), num_problems)
    Console().print(score_table(scores))
    report: dict[str, Any] = {"schema": "scores/1", "scores": [score.to_dict() for score in scores]}
    if not names and isinstance(completer, DocumentScorer):
        prose = measure_prose(completer, pack)
        Console().print(
            f"held-out prose: {prose.bits_per_byte:.3f} bits per byte "
            f"({prose.low:.3f} – {prose.high:.3f}, {prose.num_documents} documents)"
        )
        report["prose"] = prose.to_dict()
    if json_path is not None:
        write_text_atomically(json_path, json.dumps(report, indent=2) + "\n")


def measure_prose(scorer: DocumentScorer, pack: StarterPack) -> Compression:
    """Bits per byte of the chapters that were never seen; progress on stderr."""
    texts = ["".join(p.text for p in d.parts if isinstance(p, TextPart)) for d in held_out_prose(pack)]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=len(texts))
        return compression(scorer, texts, lambda count: progress.advance(task, count))


def judge_sets(
    completer: MessageCompleter, pack: StarterPack, names: Sequence[str], num_problems: int
) -> list[Score]:
    """One score per kind of problem; progress on stderr."""
    sets = [(name, problem_set(name, pack, num_problems)) for name in names]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("asking", total=2 * sum(len(problems) for _, problems in sets))
        return [
            judge(completer, name, problems, on_progress=lambda count: progress.advance(task, count))
            for name, problems in sets
        ]


def score_table(scores: Sequence[Score]) -> Table:
    """Accuracies in percent with their 95 % interval."""
    table = Table(title="held out")
    table.add_column("problem")
    for heading in ("right", "accuracy", "95 % interval", "blind twin"):
        table.add_column(heading, justify="right")
    for score in scores:
        low, high = score.interval
        table.add_row(
            score.kind,
            f"{score.num_right} of {score.num_problems}",
            f"{score.accuracy:.1%}",
            f"{low:.1%} – {high:.1%}",
            f"{score.blind_accuracy:.1%}",
        )
    return table
