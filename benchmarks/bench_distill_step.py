"""What a teacher's cached targets cost a student's training step, and how many bytes a token they take on disk.

Nano Scout on real batches of the starter pack. The peer is our own step without a teacher, on the same batches. The
teacher has fresh weights, and its targets are read from disk: neither what it knows nor how large it is changes the
student's step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from camelid.core import Batch
from camelid.core.memory import keep_freed_memory
from camelid.data import BatchLoader, LoaderState, TargetOrigin, TargetStore
from camelid.recipes.nano import nano_scout
from camelid.stages.pretrain import Pretraining
from camelid.train import BalanceConfig, Constant, LearnFromTeacher, LeaveTargets, StoredTargets
from camelid.train.balance import Balancer
from camelid.train.optimizer import Optimizers
from camelid.train.step import train_step
from measure import compare, race

BATCHES, ROUNDS = 3, 6
REQUIRED, AIM = 1 / 1.10, 1 / 1.05
MOST_BYTES = 52.0  # a token


def training_steps(targets: str) -> Callable[[], float]:
    """One step on each batch, with the targets in a folder, or without any; returns the last hard loss."""
    keep_freed_memory()  # as every training run of ours does
    pretraining = Pretraining.prepare(nano_scout())
    model, batches = pretraining.fresh_model(), read_batches(pretraining)
    optimizers = Optimizers(model, pretraining.config.train.optimizer)
    objective = None
    if targets:
        objective = LearnFromTeacher(StoredTargets(TargetStore.open(Path(targets))), Constant(0.9))

    def steps() -> float:
        for number, batch in enumerate(batches, start=1):
            metrics = train_step(
                model, [batch], optimizers, Balancer(BalanceConfig()), step=number, progress=0.5,
                lr_multiplier=0.01, objective=objective,
            )  # fmt: skip
        return metrics.loss

    return steps


def read_batches(pretraining: Pretraining) -> list[Batch]:
    """The first ones of the recipe."""
    data = pretraining.config.data
    loader = BatchLoader(
        pretraining.mixture, pretraining.chat_format, data.batch_tokens, pretraining.config.seed,
        max_document_tokens=data.max_document_tokens, start=LoaderState.start(), prefetch_depth=0,
    )  # fmt: skip
    return [batch for batch, _ in islice(loader, BATCHES)]


@torch.no_grad()
def leave_targets(folder: Path) -> TargetStore:
    """A teacher's word on the batches; they are flushed to disk."""
    pretraining = Pretraining.prepare(nano_scout())
    model, text = pretraining.fresh_model(), pretraining.config.model.text
    store = TargetStore.open(folder, TargetOrigin(text.vocab_size, "fresh weights", "starter pack"))
    leaving = LeaveTargets(store)
    leaving.begin_step(1, 0.0, BATCHES)
    for batch in read_batches(pretraining):
        output = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
        leaving.loss(batch, output, model.language_model.head_weight, None)
    store.flush()
    return store


def main() -> None:
    """The race, and the bytes."""
    with tempfile.TemporaryDirectory() as folder:
        store = leave_targets(Path(folder))
        bytes_per_token = store.bytes_per_token
        plain, taught = race(partial(training_steps, ""), partial(training_steps, folder), ROUNDS)
    verdict = "met" if bytes_per_token <= MOST_BYTES else "MISSED"
    print(
        f"{bytes_per_token:.1f} bytes a token (required: {MOST_BYTES:g} at most: {verdict}), "
        f"{store.num_tokens:,} learnt tokens in {BATCHES} batches"
    )
    compare(
        "distill-step", "s", [s / BATCHES for s in plain.seconds], [s / BATCHES for s in taught.seconds],
        required=REQUIRED, aim=AIM, preset="nano-scout", batches=BATCHES,
        what="a training step with a teacher's cached targets; peer: the same step without",
        bytes_per_token=round(bytes_per_token, 1), learnt_tokens=store.num_tokens,
    )  # fmt: skip


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s")
