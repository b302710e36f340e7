"""Pretraining: text, images and video in one packed sequence, every parameter trained from step 0."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from camelid.checkpoint import model_files
from camelid.core import Batch, Config
from camelid.core.run_dir import RunDir
from camelid.data import (
    AugmentConfig,
    BatchLoader,
    LoaderState,
    LossAveraging,
    Mixture,
    NamingConfig,
    Source,
    StarterPack,
    StarterWeights,
    open_sources,
    starter_mixture,
)
from camelid.inputs import ChatFormat, Tokenizer
from camelid.model import Llama4, Llama4Config, init_weights
from camelid.train import Objective, Observer, TrainConfig, train
from camelid.train.metap import init_scales

__all__ = ["DataConfig", "PretrainConfig", "Pretraining", "chat_format_for", "pretrain", "tokenizer_path"]


@dataclass(frozen=True)
class DataConfig(Config):
    """What is learnt from: the starter pack, whole or a share of its concepts, and users' own data.

    `paths` are .jsonl files, .parquet files or folders of texts, each with the weight beside it in
    `path_weights` (default 1); all weights are shares of examples. `averaging` says what a long text counts
    beside a short answer.
    """

    starter: StarterWeights | None = field(default_factory=StarterWeights)
    concept_share: float = 1.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    naming: NamingConfig = field(default_factory=NamingConfig)
    paths: tuple[str, ...] = ()
    path_weights: tuple[float, ...] = ()
    batch_tokens: int = 4096
    max_document_tokens: int = 512
    averaging: LossAveraging = "square"


@dataclass(frozen=True)
class PretrainConfig(Config):
    """One pretraining run, whole. `tokenizer` is a path, or empty for the starter pack's vocabulary."""

    preset: str
    model: Llama4Config
    train: TrainConfig
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: str = ""
    seed: int = 0


def pretrain(
    config: PretrainConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    observers: Sequence[Observer] = (),
    on_start: Callable[[RunDir, Llama4, ChatFormat], None] | None = None,
) -> RunDir:
    """Trains a model from random weights, or goes on with `resume`; returns the run's folder.

    `on_start` is told the run, the live model and its chat format before the first step. ConfigError when the
    resumed run was configured differently.
    """
    if resume is not None:
        resume.check_config(config)
    pretraining = Pretraining.prepare(config)
    model = pretraining.fresh_model()
    run = resume or RunDir.create(run_root, "pretrain", config.preset, config, sys.argv)
    if on_start is not None:
        on_start(run, model, pretraining.chat_format)
    pretraining.train(model, run, observers)
    return run


@dataclass(frozen=True)
class Pretraining:
    """A configured pretraining with everything opened that could be refused, and no folder made yet."""

    config: PretrainConfig
    chat_format: ChatFormat
    mixture: Mixture

    @classmethod
    def prepare(cls, config: PretrainConfig) -> Pretraining:
        """Opens tokenizer and data; ConfigError or DataError where they cannot be."""
        return cls(config, chat_format_for(config), _mixture(config.data, config.seed))

    def fresh_model(self) -> Llama4:
        """Seeded weights that know nothing, where training happens."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        scales = init_scales(self.config.model, self.config.train.optimizer.metap)
        return init_weights(Llama4(self.config.model), self.config.seed, scales).to(device)

    def train(
        self,
        model: Llama4,
        run: RunDir,
        observers: Sequence[Observer] = (),
        objective: Objective | None = None,
        until_step: int | None = None,
    ) -> bool:
        """`train.train` on this data, from the run's last checkpoint on."""
        config, vocabulary = self.config, self.chat_format.tokenizer
        files: dict[str, str | bytes] = dict(model_files(config.model, vocabulary.num_special_tokens))
        files["tokenizer.model"] = tokenizer_path(config).read_bytes()

        def open_loader(state: Mapping[str, Any] | None) -> Iterable[tuple[Batch, LoaderState]]:
            return BatchLoader(
                self.mixture,
                self.chat_format,
                config.data.batch_tokens,
                config.seed,
                config.data.max_document_tokens,
                config.data.averaging,
                LoaderState.start() if state is None else LoaderState.from_dict(dict(state)),
            )

        torch.manual_seed(
            config.seed
        )  # the random state that checkpoints keep is the run's, not the process's
        return train(
            model,
            open_loader,
            config.train,
            run,
            model_files=files,
            observers=observers,
            objective=objective,
            until_step=until_step,
        )


def tokenizer_path(config: PretrainConfig) -> Path:
    """The file that the run's vocabulary comes from."""
    return Path(config.tokenizer or str(resources.files("camelid.starter") / "tokenizer.model"))


def chat_format_for(config: PretrainConfig) -> ChatFormat:
    """The chat format of the run's tokenizer and model; DataError when their vocabularies differ."""
    path = tokenizer_path(config)
    tokenizer = Tokenizer.from_file(path, vocab_size=config.model.text.vocab_size)
    return ChatFormat.for_model(tokenizer, config.model.vision)


def _mixture(config: DataConfig, seed: int) -> Mixture:
    weights: dict[Source, float] = {}
    if config.starter is not None:
        pack = StarterPack.open(concept_share=config.concept_share)
        starter = starter_mixture(
            pack, config.starter, augment=config.augment, naming=config.naming, seed=seed
        )
        weights = {source: starter.shares[source.name] for source in starter.sources}
    return Mixture(weights | open_sources(config.paths, config.path_weights, seed))
