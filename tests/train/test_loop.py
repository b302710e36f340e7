"""Runs in miniature: to the end, stopped, failed, out of data, out of time, out of disk."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from camelid.core import Batch
from camelid.core.errors import CheckpointError, ConfigError, TrainingError
from camelid.core.run_dir import RunDir
from camelid.train import BalanceConfig, StepMetrics, TrainConfig, loop, train
from camelid.train.balance import selection_biases
from train.toy_training import FILES, ToyState, new_run, open_loader, toy_config, toy_model

BY_BIAS = BalanceConfig(kind="loss_free_bias", bias_rate=0.05, release=0.2)


def losses(run: RunDir) -> list[float]:
    return [row["loss"] for row in run.metrics()]


def test_a_whole_run(tmp_path: Path) -> None:
    config = toy_config(7, keep_checkpoints=2)
    run, seen = new_run(tmp_path, config), list[StepMetrics]()
    model = toy_model()
    train(model, open_loader, config, run, model_files=FILES, observers=[seen.append])

    assert run.status()["status"] == "finished"
    assert run.checkpoint_steps() == [6, 7]
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6, 7]
    assert [metrics.to_dict() for metrics in seen] == run.metrics()
    assert [row["progress"] for row in run.metrics()] == [step / 7 for step in range(1, 8)]
    # Linear decay over the last 0.4 of seven steps, in the middle of the last: no step is wasted at a rate of 0.
    assert seen[-1].lr == pytest.approx(1e-2 * (0.5 / 7) / 0.4)
    assert seen[0].lr == 1e-2
    assert not model.training
    last = run.latest_checkpoint()
    assert last is not None
    assert (last / "config.json").read_text() == FILES["config.json"]
    for name, tensor in load_file(last / "model.safetensors").items():
        assert torch.equal(tensor, model.state_dict()[name]), name

    train(toy_model(seed=1), open_loader, config, run, model_files=FILES, observers=[seen.append])
    assert len(seen) == 7, "a finished run has nothing left to do"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_where_it_stopped(signal_number: int, tmp_path: Path) -> None:
    """Bit for bit, with the routers' selection biases, which no model file holds."""

    def stop(metrics: StepMetrics) -> None:
        if metrics.step == 2:
            os.kill(os.getpid(), signal_number)

    config = toy_config(6, balance=BY_BIAS, micro_batches=1)
    stopped, whole = new_run(tmp_path, config), new_run(tmp_path, config)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    train(toy_model(), open_loader, config, stopped, model_files=FILES, observers=[stop])
    assert stopped.status()["status"] == "interrupted"
    assert stopped.checkpoint_steps() == [2]
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    resumed, reference = toy_model(seed=1), toy_model()
    train(resumed, open_loader, config, stopped, model_files=FILES)
    train(reference, open_loader, config, whole, model_files=FILES)
    assert stopped.status()["status"] == "finished"
    assert losses(stopped) == losses(whole)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert not any(bias.any() for bias in selection_biases(resumed).values())


def test_biases_are_kept_while_they_act(tmp_path: Path) -> None:
    config = toy_config(10, balance=BY_BIAS, micro_batches=1)
    run, model = new_run(tmp_path, config), toy_model()
    train(model, open_loader, config, run, model_files=FILES, observers=[stop_at(4)])
    kept = {layer: bias.clone() for layer, bias in selection_biases(model).items()}
    assert all(bias.any() for bias in kept.values())
    resumed = toy_model()
    train(resumed, open_loader, config.replace(steps=4), run, model_files=FILES)
    assert all(torch.equal(bias, kept[layer]) for layer, bias in selection_biases(resumed).items())


def stop_at(step: int) -> loop.Observer:
    def observe(metrics: StepMetrics) -> None:
        if metrics.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return observe


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    def interrupt(metrics: StepMetrics) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    config = toy_config(6)
    run = new_run(tmp_path, config)
    with pytest.raises(KeyboardInterrupt):
        train(toy_model(), open_loader, config, run, model_files=FILES, observers=[interrupt])
    assert run.status()["status"] == "interrupted"


class Poison(NamedTuple):
    """A step, stood in for, that goes bad at some steps."""

    bad_steps: tuple[int, ...]
    real: Any = loop.train_step

    def __call__(self, *args: Any, **kwargs: Any) -> StepMetrics:
        metrics: StepMetrics = self.real(*args, **kwargs)
        return (
            replace(metrics, loss=float("nan"), is_skipped=True)
            if metrics.step in self.bad_steps
            else metrics
        )


def test_single_bad_steps_are_lived_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "train_step", Poison((1, 2, 4, 5)))
    config = toy_config(6)
    run = new_run(tmp_path, config)
    train(toy_model(), open_loader, config, run, model_files=FILES)
    assert [row["step"] for row in run.metrics() if row["is_skipped"]] == [1, 2, 4, 5]
    assert run.status()["status"] == "finished"


def test_three_in_a_row_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "train_step", Poison((4, 5, 6)))
    config = toy_config(9)
    run = new_run(tmp_path, config)
    with pytest.raises(TrainingError, match=r"step 6: loss nan.*3 steps in a row.*step-3"):
        train(toy_model(), open_loader, config, run, model_files=FILES)
    assert run.status()["status"] == "failed"
    assert run.checkpoint_steps() == [3]


def test_a_resumed_run_remembers_its_bad_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(metrics: StepMetrics) -> None:
        if metrics.step == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train_step", Poison((5, 6, 7)))
    config = toy_config(9)
    run = new_run(tmp_path, config)
    with pytest.raises(KeyboardInterrupt):
        train(toy_model(), open_loader, config, run, model_files=FILES, observers=[interrupt])
    with pytest.raises(TrainingError, match=r"step 7: .*3 steps in a row.*step-6"):
        train(toy_model(), open_loader, config, run, model_files=FILES)


def test_data_that_ends_says_so(tmp_path: Path) -> None:
    def short(state: Mapping[str, Any] | None) -> Iterator[tuple[Batch, ToyState]]:
        return islice(open_loader(state), 5)

    config = toy_config(6)
    run = new_run(tmp_path, config)
    with pytest.raises(TrainingError, match="ended after step 2 of 6"):
        train(toy_model(), short, config, run, model_files=FILES)
    assert run.status()["status"] == "failed"


def test_a_full_disk_fails_the_run_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(metrics: StepMetrics) -> None:
        if metrics.step == 4:
            usage = shutil.disk_usage(tmp_path)
            monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))

    config = toy_config(9, keep_checkpoints=1)
    run = new_run(tmp_path, config)
    with pytest.raises(CheckpointError, match="has 1,000 free"):
        train(toy_model(), open_loader, config, run, model_files=FILES, observers=[fill_disk])
    assert run.status()["status"] == "failed"
    assert run.checkpoint_steps() == [3]


def test_the_clock_ends_a_run_with_its_decay_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute a step, a budget of two minutes, no matter how many steps were allowed."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def tick(metrics: StepMetrics) -> None:
        now[0] += 30.0

    config = toy_config(1000, max_minutes=2.0)
    run = new_run(tmp_path, config)
    observers = [tick, stop_at(2)]
    train(toy_model(), open_loader, config, run, model_files=FILES, observers=observers)
    assert [row["progress"] for row in run.metrics()] == [0.001, 0.25]

    now[0] = 1e6  # the time between stopping and going on does not count
    train(toy_model(), open_loader, config, run, model_files=FILES, observers=[tick])
    # The checkpoint was made before the observers let half a minute pass.
    assert [row["progress"] for row in run.metrics()[2:]] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    # Half a minute of two was left when the last step began; its middle is an eighth of the run from the end.
    assert run.metrics()[-1]["lr"] == pytest.approx(1e-2 * 0.125 / 0.4)
    assert run.status()["status"] == "finished"

    train(toy_model(), open_loader, config, run, model_files=FILES, observers=[tick])
    assert len(run.metrics()) == 6, "resuming a run whose time is up does nothing"


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"micro_batches": 0}, {"keep_checkpoints": 0}, {"max_minutes": -1.0}]
)
def test_numbers_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainConfig(**{"steps": 1} | bad)
