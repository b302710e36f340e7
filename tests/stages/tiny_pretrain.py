"""A pretraining run in miniature on the starter pack: seconds, and every kind of example.

As a script it pretrains until it kills itself: `tiny_pretrain.py RUNS_DIR MOMENT`, with a moment of `MOMENTS`.
A run that is in RUNS_DIR already goes on.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from camelid.core.run_dir import RunDir
from camelid.model import Llama4Config, TextConfig, VisionConfig
from camelid.stages.pretrain import DataConfig, PretrainConfig, pretrain
from camelid.train import StepMetrics, TrainConfig

__all__ = ["MOMENTS", "STEPS", "Moment", "only_run", "tiny_pretrain_config"]

STEPS = 12
MODEL = Llama4Config(
    TextConfig(
        vocab_size=5120,
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=24,
        intermediate_size_mlp=48,
        num_local_experts=4,
        layer_types=("chunked", "global"),
        moe_layers=(0, 1),
        attention_chunk_size=64,
        floor_scale=64,
    ),
    VisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=48,
        patch_size=8,
        projector_dim=32,
        max_tiles=4,
    ),
)


def tiny_pretrain_config(steps: int = STEPS, **data: Any) -> PretrainConfig:
    """A checkpoint after every fourth step, the last one kept. `data` replaces fields of the data config."""
    return PretrainConfig(
        preset="tiny",
        model=MODEL,
        train=TrainConfig(steps, checkpoint_every=4, keep_checkpoints=1),
        data=DataConfig(**{"batch_tokens": 512, "max_document_tokens": 256} | data),
    )


def only_run(root: Path) -> RunDir | None:
    """The one run below a folder, if there is one."""
    paths = [file.parent for file in root.glob("*/run.json")]
    assert len(paths) <= 1
    return RunDir.open(paths[0]) if paths else None


# What to do at the end of a step, when its metrics are written and its checkpoint is not.
Moment = Callable[[Path, StepMetrics], None]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _after_step_5(root: Path, metrics: StepMetrics) -> None:
    if metrics.step == 5:
        _die()


def _in_checkpoint_8(root: Path, metrics: StepMetrics) -> None:
    """The weights are written, half of the optimizer's state is."""

    def sync(handle: int) -> None:
        for half in root.glob("*/checkpoints/.step-8.tmp/optim.safetensors"):
            os.truncate(half, half.stat().st_size // 2)
            _die()

    if metrics.step == 8:
        os.fsync = sync


def _while_4_makes_room(root: Path, metrics: StepMetrics) -> None:
    """Checkpoint 8 is there, and what is left of the one it replaces."""
    really_remove = shutil.rmtree

    def remove(path: Path, **options: Any) -> None:
        if path.name == ".step-4.tmp":
            (path / "model.safetensors").unlink()
            _die()
        really_remove(path, **options)

    if metrics.step == 8:
        shutil.rmtree = remove


MOMENTS: Mapping[str, Moment] = {
    "after step 5": _after_step_5,
    "in checkpoint 8": _in_checkpoint_8,
    "while 4 makes room": _while_4_makes_room,
}


def _pretrain_and_die(root: Path, moment: Moment) -> None:
    torch.set_num_threads(1)
    pretrain(
        tiny_pretrain_config(),
        run_root=root,
        resume=only_run(root),
        observers=[lambda metrics: moment(root, metrics)],
    )


if __name__ == "__main__":
    _pretrain_and_die(Path(sys.argv[1]), MOMENTS[sys.argv[2]])
