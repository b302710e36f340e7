"""Mid-training for length: a finished model goes on with long documents, and is measured before and after."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from camelid.checkpoint import load_model, model_files
from camelid.core import Batch, Config
from camelid.core.errors import ConfigError
from camelid.core.files import write_text_atomically
from camelid.core.run_dir import RunDir
from camelid.data import (
    BatchLoader,
    LoaderState,
    LossAveraging,
    Mixture,
    Source,
    StarterPack,
    StarterWeights,
    open_sources,
    starter_mixture,
)
from camelid.data.questions.long_text import (
    LongProse,
    Novels,
    Recall,
    Tracking,
    recall_problems,
    tracking_problems,
)
from camelid.eval import LongContextReport, loss_by_position, score_by_length
from camelid.infer import Generator
from camelid.inputs import ChatFormat, Tokenizer
from camelid.model import Llama4, Llama4Config
from camelid.train import Observer, OptimizerConfig, TrainConfig, WarmupStableDecay, train

__all__ = ["LengthTests", "LongContextConfig", "LongWeights", "long_context", "measure_length"]

TOKENIZER = "tokenizer.model"
ROOM = 0.85  # of the tokens that a text of average density would fill: some pages are denser
FACT_TOKENS = 150  # for what is hidden in a text, its question and the headers
SHORTEST = 256  # tokens: below there is little room for a text
EVAL_SEED = 7


@dataclass(frozen=True)
class LongWeights(Config):
    """Shares of examples. `short` is everything that was learnt before, pictures included, against forgetting."""

    prose: float = 0.5
    recall: float = 0.15
    tracking: float = 0.15
    short: float = 0.2


@dataclass(frozen=True)
class LengthTests(Config):
    """What is asked before and after. `lengths` in tokens of prompts; may go beyond the trained length."""

    lengths: tuple[int, ...] = (512, 2048, 8192, 16_384)
    num_problems: int = 8
    num_texts: int = 4

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < SHORTEST or self.num_problems < 1 or self.num_texts < 1:
            raise ConfigError(
                f"lengths of at least {SHORTEST} tokens and at least one problem and text are needed, got "
                f"{list(self.lengths)}, {self.num_problems}, {self.num_texts}"
            )


def _train_config() -> TrainConfig:
    return TrainConfig(
        steps=200,
        optimizer=OptimizerConfig(lr=1e-3),
        schedule=WarmupStableDecay(warmup=0.05, decay=0.6),
        checkpoint_every=50,
    )


@dataclass(frozen=True)
class LongContextConfig(Config):
    """One run, whole. `base` is a model folder, `length` the longest document in tokens.

    `promise` becomes the saved model's max_position_embeddings, which servers refuse to exceed (0: `length`).
    Attention temperature is on from here; a model that had none gets steps of its chunk. `starter` is what short
    examples are drawn from, pictures of a `concept_share` of its concepts; `paths` are users' own
    texts with their weights, as in pretraining.
    """

    base: str
    length: int = 8192
    promise: int = 0
    weights: LongWeights = field(default_factory=LongWeights)
    starter: StarterWeights = field(default_factory=StarterWeights)
    paths: tuple[str, ...] = ()
    path_weights: tuple[float, ...] = ()
    tests: LengthTests | None = field(default_factory=LengthTests)
    train: TrainConfig = field(default_factory=_train_config)
    averaging: LossAveraging = "square"
    seed: int = 0
    concept_share: float = 1.0

    def __post_init__(self) -> None:
        if self.length < SHORTEST:
            raise ConfigError(f"length must be at least {SHORTEST} tokens, got {self.length}")
        if self.promise and self.promise < self.length:
            raise ConfigError(
                f"a promise of {self.promise:,} tokens is less than the {self.length:,} trained on"
            )


def long_context(
    config: LongContextConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    observers: Sequence[Observer] = (),
) -> RunDir:
    """Trains a model on longer sequences, or goes on with `resume`; returns the run's folder.

    evals/before.json and evals/after.json hold a `LongContextReport` each. ConfigError for a model that has no
    global layer or whose temperature does not move within `length`, and for a run that was configured differently.
    """
    if resume is not None:
        resume.check_config(config)
    base = Path(config.base)
    if not (base / TOKENIZER).is_file():
        raise ConfigError(f"{base} has no {TOKENIZER}: only a model of ours can be trained on")
    model = load_model(base)
    lengthened = _lengthened(model.config, config)
    _use(model, lengthened)
    tokenizer = Tokenizer.from_file(base / TOKENIZER, vocab_size=lengthened.text.vocab_size)
    chat_format = ChatFormat.for_model(tokenizer, lengthened.vision)
    mixture = _mixture(config, _chars(chat_format, config.length), has_vision=lengthened.vision is not None)
    torch.manual_seed(config.seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    run = resume or RunDir.create(run_root, "long-context", base.name, config, sys.argv, parents=[str(base)])
    _test(run, "before", model, chat_format, config)
    files: dict[str, str | bytes] = dict(model_files(lengthened, tokenizer.num_special_tokens))
    files[TOKENIZER] = (base / TOKENIZER).read_bytes()

    def open_loader(state: Mapping[str, Any] | None) -> Iterable[tuple[Batch, LoaderState]]:
        return BatchLoader(
            mixture,
            chat_format,
            config.length,
            config.seed,
            config.length,
            config.averaging,
            LoaderState.start() if state is None else LoaderState.from_dict(dict(state)),
        )

    train(model, open_loader, config.train, run, model_files=files, observers=observers)
    if run.status()["status"] == "finished":
        _test(run, "after", model, chat_format, config)
    return run


def _lengthened(model: Llama4Config, config: LongContextConfig) -> Llama4Config:
    text = model.text
    if "global" not in text.layer_types:
        raise ConfigError(f"this model sees {text.attention_chunk_size:,} tokens: it has no global layer")
    floor = text.floor_scale if text.attn_temperature_tuning else text.attention_chunk_size
    if config.length <= floor:
        raise ConfigError(
            f"the temperature's first step is at {floor:,} tokens, the length is {config.length:,}"
        )
    text = text.replace(
        attn_temperature_tuning=True,
        floor_scale=floor,
        max_position_embeddings=config.promise or config.length,
    )
    return model.replace(text=text)


def _use(model: Llama4, config: Llama4Config) -> None:
    """Weights stay; only temperature and promise are others."""
    model.config = config
    model.geometry.config = config.text


@cache
def _pack(concept_share: float = 1.0) -> StarterPack:
    return StarterPack.open(concept_share=concept_share)


def _chars(chat_format: ChatFormat, length: int) -> int:
    """How many characters of a novel surely fit into `length` tokens, question and headers included."""
    sample = _pack().prose("train")[0].text[:20_000]
    return int(ROOM * (length - FACT_TOKENS) * len(sample) / len(chat_format.tokenizer.encode(sample)))


def _mixture(config: LongContextConfig, max_chars: int, *, has_vision: bool) -> Mixture:
    pack, weights = _pack(), config.weights
    novels = Novels(pack.prose("train"))
    span = (novels, max(1, max_chars // 16), max_chars, config.seed)
    sources: dict[Source, float] = {
        LongProse(*span): weights.prose,
        Recall(*span, names=_names(pack)): weights.recall,
        Tracking(*span): weights.tracking,
    }
    if has_vision:
        short = starter_mixture(_pack(config.concept_share), config.starter, seed=config.seed)
        sources |= {source: weights.short * short.shares[source.name] for source in short.sources}
    return Mixture(sources | open_sources(config.paths, config.path_weights, config.seed))


def _names(pack: StarterPack) -> tuple[str, ...]:
    return tuple(concept.name for concept in pack.concepts)


def _test(
    run: RunDir, moment: str, model: Llama4, chat_format: ChatFormat, config: LongContextConfig
) -> None:
    path = run.evals_dir / f"{moment}.json"
    if config.tests is None or path.is_file():
        return
    path.parent.mkdir(exist_ok=True)
    write_text_atomically(path, measure_length(model, chat_format, config.tests).to_json() + "\n")


def measure_length(model: Llama4, chat_format: ChatFormat, tests: LengthTests) -> LongContextReport:
    """Recall and tracking by length, and loss by position to the longest, on chapters that were never seen."""
    promised, was_training = model.config, model.training
    # What is asked beyond the promise is asked to find out where it breaks.
    text = promised.text.replace(
        max_position_embeddings=max(2 * max(tests.lengths), promised.text.max_position_embeddings)
    )
    pack = _pack()
    novels, generator = Novels(pack.prose("held_out")), Generator(model, chat_format)
    chars = {length: _chars(chat_format, length) for length in tests.lengths}
    count = tests.num_problems
    recall = {
        length: recall_problems(novels, _names(pack), num_chars, count, EVAL_SEED)
        for length, num_chars in chars.items()
    }
    tracking = {
        length: tracking_problems(novels, num_chars, count, EVAL_SEED) for length, num_chars in chars.items()
    }
    step = max(1, len(novels.starts) // tests.num_texts)
    texts = [novels.window(number * step, max(chars.values())) for number in range(tests.num_texts)]
    edges = [0, *(2**power for power in range(7, max(tests.lengths).bit_length()))]
    model.eval()
    try:
        model.config = promised.replace(text=text)
        return LongContextReport(
            scores=(
                *score_by_length(generator, "recall", recall),
                *score_by_length(generator, "tracking", tracking),
            ),
            losses=loss_by_position(generator, texts, edges),
        )
    finally:
        model.config = promised
        model.train(was_training)
