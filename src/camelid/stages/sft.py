"""Supervised fine-tuning: a finished model goes on learning from conversations, whole or through adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from camelid.checkpoint import load_model, model_files
from camelid.checkpoint.peft_layout import save_adapter
from camelid.core import Batch, Config
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.data import BatchLoader, LoaderState, LossAveraging, Mixture, open_sources
from camelid.inputs import ChatFormat, Tokenizer
from camelid.model import LoraConfig, add_lora
from camelid.train import Observer, OptimizerConfig, TrainConfig, WarmupStableDecay, train

__all__ = ["SftConfig", "sft"]

TOKENIZER = "tokenizer.model"


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
    each in `path_weights` (default 1). In conversations only what the assistant says is learnt.
    """

    base: str
    paths: tuple[str, ...]
    path_weights: tuple[float, ...] = ()
    lora: LoraConfig | None = field(default_factory=LoraConfig)
    train: TrainConfig = field(default_factory=_train_config)
    batch_tokens: int = 2048
    max_document_tokens: int = 2048
    averaging: LossAveraging = "token"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.paths:
            raise ConfigError("fine-tuning needs data: at least one path")


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
    if resume is not None and SftConfig.load(resume.config_path) != config:
        raise ConfigError(f"{resume.path} was configured differently: its digest is not {config.digest[:8]}")
    mixture = Mixture(open_sources(config.paths, config.path_weights, config.seed))
    base = Path(config.base)
    if not (base / TOKENIZER).is_file():
        raise ConfigError(
            f"{base} has no {TOKENIZER}: dense ancestors with a tokenizer of their own can only be asked"
        )
    model = load_model(base)
    tokenizer = Tokenizer.from_file(base / TOKENIZER, vocab_size=model.config.text.vocab_size)
    chat_format = ChatFormat.for_model(tokenizer, model.config.vision)
    torch.manual_seed(config.seed)
    if config.lora is not None:
        add_lora(model, config.lora, config.seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    run = resume or RunDir.create(run_root, "sft", base.name, config, sys.argv, parents=[str(base)])
    files: dict[str, str | bytes] = dict(model_files(model.config, tokenizer.num_special_tokens))
    files[TOKENIZER] = (base / TOKENIZER).read_bytes()

    def open_loader(state: Mapping[str, Any] | None) -> Iterable[tuple[Batch, LoaderState]]:
        return BatchLoader(
            mixture,
            chat_format,
            config.batch_tokens,
            config.seed,
            min(config.max_document_tokens, config.batch_tokens),
            config.averaging,
            LoaderState.start() if state is None else LoaderState.from_dict(dict(state)),
        )

    train(model, open_loader, config.train, run, model_files=files, observers=observers)
    if config.lora is not None:
        save_adapter(model, config.lora, run.adapter_dir, base=config.base)
    return run
