"""The resumable training loop of any stage.

One round: take batches with the loader state that follows them → step → metrics.jsonl → observers → maybe a
checkpoint. Killed anywhere and resumed, it repeats the steps since the last checkpoint bit for bit, as long as
progress counts steps; with a time budget, progress also depends on the clock.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import torch

from camelid.checkpoint.train_state import (
    SELECTION_BIAS,
    TrainState,
    load_train_state,
    remove_train_state,
    save_train_state,
)
from camelid.core import Config
from camelid.core.errors import ConfigError, TrainingError
from camelid.core.memory import keep_freed_memory
from camelid.core.run_dir import RunDir
from camelid.model import Llama4, lora_state, merged_state_dict
from camelid.train.balance import BalanceConfig, Balancer, selection_biases
from camelid.train.objective import HardTargets, Objective
from camelid.train.optimizer import OptimizerConfig, Optimizers
from camelid.train.precision import Precision
from camelid.train.schedule import WarmupStableDecay
from camelid.train.step import StepMetrics, train_step

__all__ = ["LoaderState", "Observer", "TrainConfig", "train"]

BIAS, ADAPTER = SELECTION_BIAS, "|adapter"
Observer = Callable[[StepMetrics], None]
TakeStep = Callable[..., StepMetrics]
"""Called as `train_step` is."""


@runtime_checkable
class LoaderState(Protocol):
    """What the loop must know of a loader's state: it goes into JSON."""

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TrainConfig(Config):
    """`max_minutes` ends a run early with its schedule finished; 0 means that only steps count."""

    steps: int
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: WarmupStableDecay = field(default_factory=WarmupStableDecay)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    micro_batches: int = 1
    precision: Precision = "auto"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    max_minutes: float = 0.0
    max_bad_steps: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "micro_batches", "checkpoint_every", "keep_checkpoints", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_minutes < 0:
            raise ConfigError(f"max_minutes must not be negative, got {self.max_minutes}")


@dataclass(frozen=True)
class _Position(Config):
    """Where a run stands between two steps; `loader` is the loader's state there, `objective` the objective's.

    `num_bad_steps` counts the skipped steps in a row that led here.
    """

    step: int = 0
    progress: float = 0.0
    seconds: float = 0.0
    num_bad_steps: int = 0
    loader: dict[str, Any] | None = None
    objective: dict[str, Any] = field(default_factory=dict)


def train(
    model: Llama4,
    open_loader: Callable[[Mapping[str, Any] | None], Iterable[tuple[Any, LoaderState]]],
    config: TrainConfig,
    run: RunDir,
    *,
    model_files: Mapping[str, str | bytes],
    observers: Sequence[Observer] = (),
    objective: Objective | None = None,
    take_step: TakeStep | None = None,
    until_step: int | None = None,
) -> bool:
    """Trains `model` in place from the run's last complete checkpoint, or from the start if there is none.

    `open_loader` gets the state to go on from, or None; its batches must not run out, and are whatever `take_step`
    (default: `train_step`) learns from. `model_files` are stored in every checkpoint so that it can be loaded as a
    model. `objective` is what `train_step` makes smaller (default: plain cross-entropy); its state is part of every
    checkpoint. With `until_step` the run is saved and interrupted after that step, to be gone on with by another
    call. On SIGTERM and Ctrl-C the step is finished and saved first; returns whether that happened. Raises
    TrainingError after `max_bad_steps` steps in a row without a finite loss. Whatever ends the run, run.json says how.
    """
    keep_freed_memory()
    optimizers = Optimizers(model, config.optimizer)
    position = _resume(model, optimizers, run)
    objective = objective or HardTargets()
    objective.resume(position.objective)
    run.set_status("running")
    model.train()
    try:
        with _stop_signal() as is_stopping:
            batches = iter(open_loader(position.loader))
            is_finished = _run_steps(
                model,
                batches,
                optimizers,
                config,
                run,
                position,
                model_files,
                observers,
                objective,
                take_step or partial(train_step, objective=objective),
                lambda step: is_stopping() or (until_step is not None and step >= until_step),
            )
    except BaseException as error:
        with suppress(OSError):  # on a full disk the error that led here matters more
            run.set_status("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    run.set_status("finished" if is_finished else "interrupted")
    model.eval()
    return is_stopping()


def _run_steps(
    model: Llama4,
    batches: Iterator[tuple[Any, LoaderState]],
    optimizers: Optimizers,
    config: TrainConfig,
    run: RunDir,
    position: _Position,
    model_files: Mapping[str, str | bytes],
    observers: Sequence[Observer],
    objective: Objective,
    take_step: TakeStep,
    is_stopping: Callable[[int], bool],
) -> bool:
    """Steps until the run is over or should stop, saving as it goes; whether it is over."""
    balancer = Balancer(config.balance)
    began = time.monotonic() - position.seconds
    while not (is_over := _is_over(position, config)) and not is_stopping(position.step):
        taken = list(islice(batches, config.micro_batches))
        if len(taken) < config.micro_batches:
            raise TrainingError(f"the data ended after step {position.step} of {config.steps}")
        loader = taken[-1][1].to_dict()
        progress = _progress(config, position.step, time.monotonic() - began)
        metrics = take_step(
            model,
            [batch for batch, _ in taken],
            optimizers,
            balancer,
            step=position.step + 1,
            progress=progress,
            # In the middle of what the step makes: at either end a first or a last step would have a rate of 0.
            lr_multiplier=config.schedule((position.progress + progress) / 2),
            precision=config.precision,
        )
        metrics = replace(metrics, num_skipped_examples=sum(loader.get("skipped", {}).values()))
        num_bad = position.num_bad_steps + 1 if metrics.is_skipped else 0
        position = _Position(metrics.step, progress, time.monotonic() - began, num_bad, loader)
        run.append_metrics(metrics.to_dict())
        for observe in observers:
            observe(metrics)
        if num_bad >= config.max_bad_steps:
            raise TrainingError(
                f"step {metrics.step}: loss {metrics.loss}, gradient norm {metrics.grad_norm}, {num_bad} steps in "
                f"a row; the last good checkpoint is {run.latest_checkpoint()}"
            )
        if metrics.step % config.checkpoint_every == 0:
            _save(run, position, model, optimizers, objective, model_files, config.keep_checkpoints)
    if position.step not in (0, *run.checkpoint_steps()):
        _save(run, position, model, optimizers, objective, model_files, config.keep_checkpoints)
    return is_over


def _is_over(position: _Position, config: TrainConfig) -> bool:
    return position.step >= config.steps or position.progress >= 1


def _progress(config: TrainConfig, step: int, seconds: float) -> float:
    """How much of the run is done after the step that begins now, by steps or by the clock, if that is further."""
    by_clock = seconds / (60 * config.max_minutes) if config.max_minutes else 0.0
    return min(1.0, max((step + 1) / config.steps, by_clock))


def _resume(model: Llama4, optimizers: Optimizers, run: RunDir) -> _Position:
    directory = run.latest_checkpoint()
    if directory is None:
        run.truncate_metrics(0)
        return _Position()
    saved = load_train_state(directory)
    position = _Position.from_dict(dict(saved.loader))
    adapters = {
        name.removesuffix(ADAPTER): tensor
        for name, tensor in saved.optimizer.items()
        if name.endswith(ADAPTER)
    }
    if adapters:
        model.load_state_dict(adapters, strict=False)
    else:
        model.load_state_dict(dict(saved.model))
    biases = {name: tensor for name, tensor in saved.optimizer.items() if name.endswith(BIAS)}
    for layer, bias in selection_biases(model).items():
        bias.copy_(biases.get(f"{layer}{BIAS}", torch.zeros_like(bias)))
    kept_apart = (BIAS, ADAPTER)
    optimizers.load_state_tensors({k: v for k, v in saved.optimizer.items() if not k.endswith(kept_apart)})
    torch.set_rng_state(saved.rng["torch"])
    run.truncate_metrics(position.step)
    return position


def _save(
    run: RunDir,
    position: _Position,
    model: Llama4,
    optimizers: Optimizers,
    objective: Objective,
    model_files: Mapping[str, str | bytes],
    num_kept: int,
) -> None:
    """Writes a checkpoint; only then removes the oldest beyond `num_kept`.

    Adapted models are stored merged, so that every checkpoint is a plain model; what a resumed run needs of the
    adapters lies with the optimizer's state.
    """
    biases = {f"{layer}{BIAS}": bias for layer, bias in selection_biases(model).items() if bool(bias.any())}
    adapters = {f"{name}{ADAPTER}": tensor for name, tensor in lora_state(model).items()}
    state = TrainState(
        model=merged_state_dict(model),
        optimizer=optimizers.state_tensors() | biases | adapters,
        rng={"torch": torch.get_rng_state()},
        loader=replace(position, objective=objective.save()).to_dict(),
    )
    save_train_state(run.checkpoint_dir(position.step), state, model_files)
    for old in run.checkpoint_steps()[:-num_kept]:
        remove_train_state(run.checkpoint_dir(old))


@contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM and the first Ctrl-C only raise a flag; a second Ctrl-C interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in old:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
