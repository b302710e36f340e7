"""Direct preference optimisation: of two answers the preferred one grows likelier than it was to the reference.

Pairs come from files, from the style of a chat variant, and from the model's own answers ranked by reward. What the
reference thinks of them, which is the model at the start, is computed once and kept with the run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core import Batch, Config, Message, ModelInput
from camelid.core.errors import ConfigError, InputError
from camelid.core.files import write_bytes_atomically
from camelid.core.run_dir import RunDir
from camelid.data import StarterPack
from camelid.data.epochs import epoch_order
from camelid.data.loader import example_rng
from camelid.data.preferences import PreferencePair, VariantName, read_pairs, variant_pairs
from camelid.data.verifiable import open_tasks
from camelid.inputs import ChatFormat
from camelid.model import Llama4, LoraConfig
from camelid.stages.experience import ask_groups
from camelid.stages.manners import Manners, manners
from camelid.stages.starting_point import StartingPoint, model_digest, start_from
from camelid.train import Observer, OptimizerConfig, StepMetrics, TrainConfig, WarmupStableDecay, train
from camelid.train.objective_step import ObjectiveLoss, Scored, objective_step, score
from camelid.train.preference_loss import PreferenceConfig, preference_loss, summed_by

__all__ = ["DpoConfig", "dpo"]


def _train_config() -> TrainConfig:
    return TrainConfig(
        steps=150,
        optimizer=OptimizerConfig(kind="adamw", lr=3e-4, weight_decay=0.0),
        schedule=WarmupStableDecay(warmup=0.05, decay=0.95),
        checkpoint_every=50,
    )


@dataclass(frozen=True)
class DpoConfig(Config):
    """One run of preference optimisation. `base` is a model folder; `lora` None trains every parameter.

    Pairs: all of `paths`; `num_pairs` of the chat `variant`; and, of `sampled_prompts` challenges of every one of the
    `sampled_tasks`, the best and the worst of `samples_per_prompt` answers of the base, where their rewards differ.
    `num_held_out` questions, never trained on, measure manners and right answers before and after. Pictures are of a
    `concept_share` of the starter pack.
    """

    base: str
    paths: tuple[str, ...] = ()
    variant: Literal["none", "instruct", "chatty"] = "none"
    num_pairs: int = 1000
    sampled_tasks: tuple[str, ...] = ()
    sampled_prompts: int = 200
    samples_per_prompt: int = 4
    max_answer_tokens: int = 32
    lora: LoraConfig | None = field(default_factory=lambda: LoraConfig(rank=16, alpha=32.0))
    loss: PreferenceConfig = field(default_factory=PreferenceConfig)
    train: TrainConfig = field(default_factory=_train_config)
    pairs_per_step: int = 16
    batch_tokens: int = 4096
    num_held_out: int = 100
    seed: int = 0
    concept_share: float = 1.0

    def __post_init__(self) -> None:
        if not (self.paths or self.sampled_tasks) and self.variant == "none":
            raise ConfigError("preferences need pairs: a path, a variant or tasks to sample from")
        if self.train.micro_batches != 1:
            raise ConfigError(
                f"a step has pairs_per_step pairs, got {self.train.micro_batches} micro_batches"
            )
        least = {"num_pairs": 1, "sampled_prompts": 1, "samples_per_prompt": 2, "pairs_per_step": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"{name} must be at least {value}, got {getattr(self, name)}")


@dataclass(frozen=True)
class _State(Config):
    """The number of the next pair."""

    next_pair: int = 0


@dataclass(frozen=True)
class _Pairs:
    """Some pairs, packed: chosen and rejected answers in turn, and what the reference thinks of each."""

    batches: tuple[Batch, ...]
    reference: tuple[Float[Tensor, "answers"], ...]


def dpo(
    config: DpoConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    observers: Sequence[Observer] = (),
) -> RunDir:
    """Tunes a model to preferences, or goes on with `resume`; returns the run's folder.

    Notes of the run: how many pairs there were, manners `before` and `after`, and the digest of the end model.
    ConfigError when the resumed run was configured differently.
    """
    if resume is not None:
        resume.check_config(config)
    base = Path(config.base)
    start = start_from(base, config.lora, config.seed)
    pairs = _pairs(config, start)
    answers = [
        encode_answer(start.chat_format, pair.messages, answer)
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)
    ]
    run = resume or RunDir.create(run_root, "dpo", base.name, config, sys.argv, parents=[str(base)])
    if not run.reference_path.is_file():
        reference = _sums(start.model, answers, config)
        run.note(num_pairs=len(pairs))
        if config.num_held_out:
            run.note(before=_manners(start, config).to_dict())
        write_bytes_atomically(run.reference_path, safetensors.torch.save({"logprobs": reference}))
    reference = safetensors.torch.load_file(run.reference_path)["logprobs"]

    def open_loader(state: Mapping[str, Any] | None) -> Iterator[tuple[_Pairs, _State]]:
        number = 0 if state is None else _State.from_dict(dict(state)).next_pair
        while True:
            places = [
                epoch_order(len(pairs), number + place, config.seed) for place in range(config.pairs_per_step)
            ]
            number += config.pairs_per_step
            yield _pack(answers, reference, places, config.batch_tokens), _State(number)

    def take_step(model: Llama4, items: Sequence[_Pairs], *args: Any, **options: Any) -> StepMetrics:
        (item,) = items
        metrics = objective_step(model, item.batches, _Preference(config, item), *args, **options)
        means = {name: value / config.pairs_per_step for name, value in metrics.numbers.items()}
        return replace(metrics, numbers=means)

    train(
        start.model,
        open_loader,
        config.train,
        run,
        model_files=start.files,
        observers=observers,
        take_step=take_step,
    )
    if config.lora is not None:
        start.save_adapter(config.lora, run.adapter_dir, config.base)
    if run.status()["status"] == "finished":
        if config.num_held_out:
            run.note(after=_manners(start, config).to_dict())
        run.note(digest=model_digest(run))
    return run


def encode_answer(chat_format: ChatFormat, before: Sequence[Message], answer: Message) -> ModelInput:
    """A conversation in which the last answer alone counts, whatever the assistant said before."""
    encoded = chat_format.encode([*before, answer])
    prompt_length = len(chat_format.encode(before, for_generation=True))
    weights = encoded.loss_weights.clone()
    weights[:prompt_length] = 0.0
    if not weights.any():
        raise InputError(f"nothing of the answer {answer.text!r:.80} counts")
    return replace(encoded, loss_weights=weights)


def _manners(start: StartingPoint, config: DpoConfig) -> Manners:
    return manners(start, _starter_pack(config), config.num_held_out, config.max_answer_tokens)


def _starter_pack(config: DpoConfig) -> StarterPack:
    return StarterPack.open(concept_share=config.concept_share)


def _pairs(config: DpoConfig, start: StartingPoint) -> list[PreferencePair]:
    pack = _starter_pack(config)
    pairs = [pair for path in config.paths for pair in read_pairs(Path(path))]
    if config.variant != "none":
        name: VariantName = config.variant
        pairs += variant_pairs(name, pack, config.num_pairs, config.seed, "train")
    for place, task in enumerate(open_tasks(config.sampled_tasks, pack) if config.sampled_tasks else ()):
        challenges = [task.challenge(number) for number in range(config.sampled_prompts)]
        groups = ask_groups(
            start.model,
            start.chat_format,
            challenges,
            example_rng(config.seed, place),
            samples=config.samples_per_prompt,
            max_tokens=config.max_answer_tokens,
        )
        for challenge, group in zip(challenges, groups, strict=True):
            ranked = sorted(zip(group.rewards, (one.text for one in group.rollouts), strict=True))
            (worst, bad), (best, good) = ranked[0], ranked[-1]
            if best > worst and good.strip() and bad.strip():
                answers = (Message.of("assistant", text) for text in (good, bad))
                pairs.append(PreferencePair(challenge.messages, *answers))
    if not pairs:
        raise ConfigError("no two answers of the model to one prompt were worth different rewards: no pairs")
    return pairs


@torch.no_grad()
def _sums(model: Llama4, answers: Sequence[ModelInput], config: DpoConfig) -> Float[Tensor, "answers"]:
    """The model's ln p of every answer, as the objective sums it."""
    sums, device = [], model.language_model.head_weight.device
    for batch in _batches(answers, config.batch_tokens):
        scored, _ = score(model, batch.to(device), config.train.precision)
        sums.append(summed_by(scored.logprobs, _owners(batch, scored), len(batch.document_lengths)).cpu())
    return torch.cat(sums)


def _batches(answers: Sequence[ModelInput], batch_tokens: int) -> list[Batch]:
    """Answers packed two and two."""
    rows: list[list[ModelInput]] = [[]]
    for place in range(0, len(answers), 2):
        two = list(answers[place : place + 2])
        if rows[-1] and sum(map(len, rows[-1])) + sum(map(len, two)) > batch_tokens:
            rows.append([])
        rows[-1] += two
    return [Batch.pack(row) for row in rows]


def _pack(
    answers: Sequence[ModelInput], reference: Tensor, places: Sequence[int], batch_tokens: int
) -> _Pairs:
    chosen = [2 * place + offset for place in places for offset in (0, 1)]
    batches = _batches([answers[number] for number in chosen], batch_tokens)
    opinions = reference[torch.tensor(chosen)].split([len(batch.document_lengths) for batch in batches])
    return _Pairs(tuple(batches), tuple(opinions))


def _owners(batch: Batch, scored: Scored) -> Tensor:
    """The number of the document that each valid token belongs to."""
    lengths = torch.tensor(batch.document_lengths, device=scored.rows.device)
    return torch.arange(len(lengths), device=scored.rows.device).repeat_interleave(lengths)[scored.rows]


class _Preference:
    """The objective of one step: the mean loss of its pairs."""

    def __init__(self, config: DpoConfig, pairs: _Pairs) -> None:
        self._config, self._pairs = config, pairs

    def __call__(self, number: int, scored: Scored, pass_number: int) -> ObjectiveLoss:
        batch, reference = self._pairs.batches[number], self._pairs.reference[number]
        count = len(batch.document_lengths)
        owners, device = _owners(batch, scored), scored.logprobs.device
        sums = summed_by(scored.logprobs, owners, count)
        lengths = torch.bincount(owners, minlength=count).float()
        reference = reference.to(device)
        result = preference_loss(
            sums[0::2],
            sums[1::2],
            reference[0::2],
            reference[1::2],
            lengths[0::2],
            lengths[1::2],
            self._config.loss,
        )
        margins = result.chosen_rewards - result.rejected_rewards
        numbers = {
            "margin": float(margins.sum()),
            "accuracy": float((margins > 0).sum()),
            "chosen_reward": float(result.chosen_rewards.sum()),
            "rejected_reward": float(result.rejected_rewards.sum()),
            "chosen_nats": float(-(sums[0::2] / lengths[0::2]).detach().sum()),
        }
        return ObjectiveLoss(result.losses.sum() / self._config.pairs_per_step, numbers)
