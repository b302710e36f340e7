"""A tiny herd whose stages leave files at once, and die where they are told to.

As a script it goes the road until it kills itself: `fake_stages.py RUNS_DIR STAGE MOMENT`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from camelid.core import Config
from camelid.core.run_dir import COMPLETE, RunDir
from camelid.eval import GalleryItem, Score
from camelid.herd import EvaluationConfig, HerdConfig, Scorecard, Stage, Watch, travel
from camelid.herd.road import Runner
from camelid.herd.stage import Kind
from camelid.stages.dpo import DpoConfig
from camelid.stages.long_context import LongContextConfig
from camelid.stages.rl import RlConfig
from camelid.stages.sft import SftConfig
from stages.tiny_distill import codistill_config
from stages.tiny_pretrain import only_run

__all__ = ["fake_runners", "go", "tiny_herd"]

STUDENTS = ("tiny-scout", "tiny-maverick")
STEPS = {"loss_by_modality": {"text": 2.0, "image": 1.0}, "num_tokens": 100, "num_tiles": 2, "seconds": 0.5}
REST = {"lr": 1e-3, "grad_norm": 1.0, "expert_counts": [], "numbers": {}}
TAUGHT = {"soft_weight": {"text": 0.5}, "kl": {"text": 0.25}, "teacher_loss": {"text": 1.75}}
Moment = Callable[[str, str], None]


def tiny_herd() -> HerdConfig:
    """A teacher, two students, every stage."""
    variants = tuple(DpoConfig("", variant=name) for name in ("instruct", "chatty"))
    return HerdConfig(
        name="tiny",
        pretraining=codistill_config(),
        long_context=LongContextConfig(""),
        sft=SftConfig("", (), tasks=("where",)),
        rl=RlConfig("", ("where",), teacher="teacher"),
        variants=variants,
        evaluation=EvaluationConfig(num_problems=10, kinds=("count-new-scene",)),
    )


def fake_runners(made: list[tuple[str, bool, Config]], at: Moment = lambda *_: None) -> Mapping[Kind, Runner]:
    """Every run has two steps and a checkpoint; `made` is told of each, `at` of the moments of each."""

    def learn(stage: Stage, root: Path, resume: RunDir | None, watch: Watch) -> RunDir:
        made.append((stage.name, resume is not None, stage.config))
        at(stage.name, "start")
        run = resume or RunDir.create(root, stage.kind, stage.member, stage.config)
        at(stage.name, "inside")
        _leave(run, stage.name)
        for student in STUDENTS if stage.kind == "codistill" else ():
            _leave(RunDir.create(run.students_dir, stage.kind, student, stage.config), student)
        at(stage.name, "end")
        return run

    return dict.fromkeys(("codistill", "long-context", "sft", "rl", "dpo", "eval"), learn)


def _leave(run: RunDir, name: str) -> None:
    run.truncate_metrics(0)
    for step in (1, 2):
        run.append_metrics(
            {
                "step": step,
                **STEPS,
                **REST,
                "distill": TAUGHT if name in ("tiny-scout", "tiny-maverick") else None,
            }
        )
    checkpoint = run.checkpoint_dir(2)
    if "eval" in name:
        run.evals_dir.mkdir(exist_ok=True)
        (run.evals_dir / "scores.json").write_text(Scorecard((Score("count", 10, 7, 3),)).to_json())
        item = GalleryItem("count-new-scene", "How many?", (b"\x89PNG",), "two", "two", True)
        (run.evals_dir / "gallery.json").write_text(json.dumps([item.to_dict()]))
    elif not checkpoint.is_dir():
        checkpoint.mkdir()
        (checkpoint / "model.safetensors").write_text(name)
        (checkpoint / COMPLETE).write_text("")
    run.set_status("finished")


def go(root: Path, runners: Mapping[Kind, Runner]) -> RunDir:
    """Begins in a folder, or goes on with what is in it."""
    return travel(tiny_herd(), run_root=root, resume=only_run(root), runners=runners)


def _die(stage: str, moment: str, now: str, at: str) -> None:
    if (now, at) == (stage, moment):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    go(Path(sys.argv[1]), fake_runners([], partial(_die, sys.argv[2], sys.argv[3])))
