"""Supervised fine-tuning: a finished model goes on learning from conversations, whole or through adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from camelid.core import Batch, Config
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.data import BatchLoader, LoaderState, LossAveraging, Mixture, Source, StarterPack, open_sources
from camelid.data.verifiable import TaskExamples, open_tasks
from camelid.model import LoraConfig
from camelid.stages.easy_examples import FilterConfig, without_easy
from camelid.stages.starting_point import start_from
from camelid.train import Observer, OptimizerConfig, TrainConfig, WarmupStableDecay, train

__all__ = ["SftConfig", "sft"]


def _train_config() -> TrainConfig:
    return TrainConfig(
        steps=300,
        optimizer=OptimizerConfig(kind="adamw", lr=1e-3, weight_decay=0.0),
        schedule=WarmupStableDecay(warmup=0.03, decay=0.97),
        checkpoint_every=100,
    )


@dataclass(frozen=True)
class SftConfig(Config):
    """One fine-tuning run. `base` is a model folder; `lora` None trains every parameter.

    `paths` are users' data: .jsonl files of messages, .parquet files or folders of texts, with the weight beside
    each in `path_weights` (default 1). In conversations only what the assistant says is learnt. `tasks` are verifiable
    ones with their answers (`data/verifiable/`), each of weight 1, about a `concept_share` of the
    starter pack. `filter` leaves out what the base can already do; None learns from everything.
    """

    base: str
    paths: tuple[str, ...]
    path_weights: tuple[float, ...] = ()
    tasks: tuple[str, ...] = ()
    filter: FilterConfig | None = None
    lora: LoraConfig | None = field(default_factory=LoraConfig)
    train: TrainConfig = field(default_factory=_train_config)
    batch_tokens: int = 2048
    max_document_tokens: int = 2048
    averaging: LossAveraging = "token"
    seed: int = 0
    concept_share: float = 1.0

    def __post_init__(self) -> None:
        if not (self.paths or self.tasks):
            raise ConfigError("fine-tuning needs data: at least one path or task")


def sft(
    config: SftConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    observers: Sequence[Observer] = (),
) -> RunDir:
    """Fine-tunes a model, or goes on with `resume`; returns the run's folder.

    Every checkpoint is a whole model with the adapters merged in; the adapters alone are written, in PEFT's form,
    when the run stops. ConfigError when the resumed run was configured differently.
    """
    if resume is not None:
        resume.check_config(config)
    base = Path(config.base)
    weights: dict[Source, float] = (
        open_sources(config.paths, config.path_weights, config.seed) if config.paths else {}
    )
    if config.tasks:
        pack = StarterPack.open(concept_share=config.concept_share)
        weights |= {TaskExamples(task): 1.0 for task in open_tasks(config.tasks, pack)}
    start = start_from(base, config.lora, config.seed)
    limit = min(config.max_document_tokens, config.batch_tokens)
    run = resume or RunDir.create(run_root, "sft", base.name, config, sys.argv, parents=[str(base)])
    if config.filter is not None:
        weights = without_easy(weights, config.filter, start, limit, config.seed, run)
    mixture = Mixture(weights)

    def open_loader(state: Mapping[str, Any] | None) -> Iterable[tuple[Batch, LoaderState]]:
        return BatchLoader(
            mixture,
            start.chat_format,
            config.batch_tokens,
            config.seed,
            limit,
            config.averaging,
            LoaderState.start() if state is None else LoaderState.from_dict(dict(state)),
        )

    train(start.model, open_loader, config.train, run, model_files=start.files, observers=observers)
    if config.lora is not None:
        start.save_adapter(config.lora, run.adapter_dir, config.base)
    return run
