"""A run in miniature: a tiny seeing model, a loader that says where it stands, a few steps.

As a script it trains until it kills itself: `toy_training.py RUNS_DIR LAST_STEP`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from camelid.core import Batch, Config
from camelid.core.run_dir import RunDir
from camelid.model import Llama4, Llama4Config
from camelid.testing.tiny import tiny_config, tiny_input, tiny_model
from camelid.train import OptimizerConfig, StepMetrics, TrainConfig, train

__all__ = ["FILES", "ToyState", "new_run", "open_loader", "toy_batch", "toy_config", "toy_model"]

SMALL: dict[str, Any] = {"layer_types": ("chunked", "global"), "moe_layers": (0, 1)}
MODEL: Llama4Config = tiny_config(vision=True, **SMALL)
FILES = {"config.json": "{}"}


@dataclass(frozen=True)
class ToyState(Config):
    """The number of the next batch."""

    next_batch: int = 0


def toy_model(seed: int = 0) -> Llama4:
    """Two MoE layers, one chunked and one global, and a vision encoder."""
    return tiny_model(vision=True, seed=seed, **SMALL)


def toy_batch(number: int) -> Batch:
    """Two documents, one with a picture."""
    picture, text = tiny_input(MODEL, 30, (3,), seed=2 * number), tiny_input(MODEL, 17, seed=2 * number + 1)
    return Batch.pack([picture, text])


def open_loader(state: Mapping[str, Any] | None) -> Iterator[tuple[Batch, ToyState]]:
    """An endless stream of batches, each another."""
    number = state["next_batch"] if state else 0
    while True:
        yield toy_batch(number), ToyState(number + 1)
        number += 1


def toy_config(steps: int, **changes: Any) -> TrainConfig:
    """A few steps in fp32, with a checkpoint at every third."""
    optimizer = OptimizerConfig(lr=1e-2)
    fields = {"optimizer": optimizer, "precision": "fp32", "checkpoint_every": 3, "micro_batches": 2}
    return TrainConfig(steps, **fields | changes)


def new_run(root: Path, config: TrainConfig) -> RunDir:
    """An empty run."""
    return RunDir.create(root, "toy", "tiny", config)


def _train_and_die(root: Path, last_step: int) -> None:
    def kill(metrics: StepMetrics) -> None:
        if metrics.step == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    config, model = toy_config(steps=8), toy_model()
    torch.manual_seed(0)
    train(model, open_loader, config, new_run(root, config), model_files=FILES, observers=[kill])


if __name__ == "__main__":
    _train_and_die(Path(sys.argv[1]), int(sys.argv[2]))
