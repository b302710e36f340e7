"""A teacher and two students in miniature, on pictures, clips and text of the starter pack.

As a script it trains them together until it kills itself: `tiny_distill.py RUNS_DIR MEMBER STEP`. A job that is in
RUNS_DIR already goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from camelid.model import Llama4Config
from camelid.stages.distill import CodistillConfig, Student, codistill
from camelid.stages.pretrain import PretrainConfig
from camelid.train import Gap, Observer, OptimizerConfig, StepMetrics, TrainConfig
from stages.tiny_pretrain import MODEL, only_run, tiny_pretrain_config

__all__ = ["STEPS", "TEACHER", "codistill_config", "teacher_config"]

STEPS = 6
TEACHER: Llama4Config = MODEL.replace(text=MODEL.text.replace(hidden_size=48, intermediate_size=40))
SPARSE: Llama4Config = MODEL.replace(
    text=MODEL.text.replace(num_local_experts=8, moe_layers=(1,), use_qk_norm=False)
)


def teacher_config(steps: int = STEPS, **data: Any) -> PretrainConfig:
    """Half as wide again as its students; batches of 256 tokens."""
    config = tiny_pretrain_config(steps, **{"batch_tokens": 256, "max_document_tokens": 128} | data)
    return config.replace(preset="tiny-behemoth", model=TEACHER, train=_train(steps))


def codistill_config(steps: int = STEPS, **changes: Any) -> CodistillConfig:
    """A Scout and a Maverick that follow two steps behind; a checkpoint at every third step."""
    students = tuple(
        Student(name, model, _train(steps), Gap(memory=0.5))
        for name, model in (("tiny-scout", MODEL), ("tiny-maverick", SPARSE))
    )
    return CodistillConfig(teacher_config(steps), students, segment_steps=2).replace(**changes)


def _train(steps: int) -> TrainConfig:
    optimizer = OptimizerConfig(kind="adamw", lr=1e-2)
    return TrainConfig(steps, optimizer, checkpoint_every=3, keep_checkpoints=1)


def _codistill_and_die(root: Path, victim: str, last_step: int) -> None:
    def observers(member: str) -> Sequence[Observer]:
        def kill(metrics: StepMetrics) -> None:
            if (member, metrics.step) == (victim, last_step):
                os.kill(os.getpid(), signal.SIGKILL)

        return [kill]

    torch.set_num_threads(1)
    codistill(codistill_config(), run_root=root, resume=only_run(root), observers=observers)


if __name__ == "__main__":
    _codistill_and_die(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
