"""Online reinforcement learning: the model answers, answers are checked, what was better than its group grows likelier.

Each step draws prompts that the model sometimes solves, samples a group of answers to each from the engine over the
very weights that are trained, and takes `passes` updates on them. The engine's log-probabilities and the trainer's
are compared token by token before the first update of every step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from camelid.core import Batch, Config
from camelid.core.errors import ConfigError, TrainingError
from camelid.core.run_dir import RunDir
from camelid.data import StarterPack
from camelid.data.loader import example_rng
from camelid.data.verifiable import PoolConfig, PoolState, PromptPool, Task, open_tasks
from camelid.inputs import ChatFormat
from camelid.model import Llama4, LoraConfig
from camelid.stages.experience import Experience, ask_groups, pack_experience
from camelid.stages.starting_point import frozen_copy, model_digest, start_from
from camelid.train import Observer, OptimizerConfig, StepMetrics, TrainConfig, WarmupStableDecay, train
from camelid.train.objective_step import ObjectiveLoss, Scored, objective_step, score
from camelid.train.policy_loss import ClipConfig, clipped_policy_loss, kl_to_reference

__all__ = ["RlConfig", "pass_at_1", "rl"]

MAX_ROUNDS = 8
HELD_OUT_SEED = 0


def _train_config() -> TrainConfig:
    return TrainConfig(
        steps=200,
        optimizer=OptimizerConfig(kind="adamw", lr=3e-4, weight_decay=0.0),
        schedule=WarmupStableDecay(warmup=0.02, decay=0.2),
        precision="fp32",
        checkpoint_every=20,
    )


@dataclass(frozen=True)
class RlConfig(Config):
    """One run of reinforcement learning. `base` is a model folder; `lora` None trains every parameter.

    `kl_weight` pulls to the base; a `teacher` (a model folder of the same vocabulary) adds to every token's advantage
    `teacher_weight` times what it thinks better of the token than the policy does: reverse KL, on the policy's own
    answers. A sequence whose log-probabilities in engine and trainer differ by more than `max_gap` (a router that was
    undecided) is not learnt from; more than `max_gap_share` of a step's end the run. `num_held_out` challenges of each
    task, never trained on, are answered before and after: greedily, and `samples_held_out` times as in training.
    Pictures are of a `concept_share` of the starter pack.
    """

    base: str
    tasks: tuple[str, ...]
    lora: LoraConfig | None = field(default_factory=lambda: LoraConfig(rank=16, alpha=32.0))
    train: TrainConfig = field(default_factory=_train_config)
    pool: PoolConfig = field(default_factory=PoolConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    prompts_per_step: int = 16
    samples_per_prompt: int = 8
    max_answer_tokens: int = 48
    passes: int = 1
    batch_tokens: int = 4096
    kl_weight: float = 0.0
    teacher: str = ""
    teacher_weight: float = 1.0
    max_gap: float = 1e-4
    max_gap_share: float = 0.1
    num_held_out: int = 100
    samples_held_out: int = 4
    seed: int = 0
    concept_share: float = 1.0

    def __post_init__(self) -> None:
        if self.train.precision != "fp32":
            raise ConfigError(
                f"reinforcement learning needs precision fp32, got {self.train.precision!r}: rollouts are fp32, and "
                f"a trainer in bf16 would be further from them than {self.max_gap}"
            )
        if self.train.micro_batches != 1:
            raise ConfigError(
                f"a step has one round of answers, got {self.train.micro_batches} micro_batches"
            )
        least = {
            "prompts_per_step": 1,
            "samples_per_prompt": 2,
            "max_answer_tokens": 1,
            "passes": 1,
            "samples_held_out": 1,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"{name} must be at least {value}, got {getattr(self, name)}")
        if self.kl_weight < 0 or self.teacher_weight < 0 or self.num_held_out < 0:
            raise ConfigError("kl_weight, teacher_weight and num_held_out must not be negative")


def rl(
    config: RlConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    observers: Sequence[Observer] = (),
    tasks: Sequence[Task] | None = None,
) -> RunDir:
    """Trains a model by reward, or goes on with `resume`; returns the run's folder.

    Notes of the run: the held-out pass@1 of every task `before` and `after`, and the digest of the end model. `tasks`
    replaces those that the config names. ConfigError when the resumed run was configured differently.
    """
    if resume is not None:
        resume.check_config(config)
    if tasks is None:
        tasks = open_tasks(config.tasks, StarterPack.open(concept_share=config.concept_share))
    base = Path(config.base)
    start = start_from(base, config.lora, config.seed)
    opinions = {
        name: frozen_copy(Path(path), start.model)
        for name, path, is_needed in (
            ("reference", config.base, config.kl_weight > 0),
            ("teacher", config.teacher, config.teacher),
        )
        if is_needed
    }
    run = resume or RunDir.create(run_root, "rl", base.name, config, sys.argv, parents=[str(base)])
    if "before" not in run.notes() and config.num_held_out:
        run.note(before=pass_at_1(start.model, start.chat_format, tasks, config))

    def open_loader(state: Mapping[str, Any] | None) -> Iterator[tuple[Experience, PoolState]]:
        known = PoolState() if state is None else PoolState.from_dict(dict(state))
        return _experiences(start.model, start.chat_format, tasks, config, known)

    def take_step(model: Llama4, items: Sequence[Experience], *args: Any, **options: Any) -> StepMetrics:
        (experience,) = items
        policy = _Policy(config, experience, opinions)
        metrics = objective_step(
            model, experience.batches, policy, *args, num_passes=config.passes, **options
        )
        return policy.judged(metrics)

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
            run.note(after=pass_at_1(start.model, start.chat_format, tasks, config))
        run.note(digest=model_digest(run))
    return run


def _experiences(
    model: Llama4, chat_format: ChatFormat, tasks: Sequence[Task], config: RlConfig, state: PoolState
) -> Iterator[tuple[Experience, PoolState]]:
    """Rounds of answers by the weights as they are when the next one is asked for."""
    pool = PromptPool(len(tasks), config.pool, config.seed, state)
    while True:
        for _ in range(MAX_ROUNDS):
            seeds = example_rng(config.seed, pool.state.drawn)
            prompts = pool.draw(config.prompts_per_step)
            challenges = [tasks[prompt.task].challenge(prompt.number) for prompt in prompts]
            groups = ask_groups(
                model,
                chat_format,
                challenges,
                seeds,
                samples=config.samples_per_prompt,
                max_tokens=config.max_answer_tokens,
            )
            pool.note(prompts, [group.pass_rate for group in groups])
            experience = pack_experience(groups, config.batch_tokens, keeps_all=bool(config.teacher))
            if experience.batches:
                break
        else:
            raise TrainingError(
                f"{MAX_ROUNDS} rounds of {config.prompts_per_step} prompts, and no two answers to one of them were "
                "worth different rewards: the tasks are too easy or too hard for this model"
            )
        numbers = experience.numbers | {"pool_outside": pool.share_outside}
        for place, task in enumerate(tasks):
            own = [
                group.pass_rate for group, prompt in zip(groups, prompts, strict=True) if prompt.task == place
            ]
            if own:
                numbers[f"pass_{task.name}"] = sum(own) / len(own)
        yield replace(experience, numbers=numbers), pool.state


class _Policy:
    """The objective of one step: the clipped loss of its experience, averaged over all valid tokens."""

    def __init__(self, config: RlConfig, experience: Experience, opinions: Mapping[str, Llama4]) -> None:
        self._config, self._experience = config, experience
        self._num_tokens = sum(len(values) for values in experience.advantages)
        self._num_sequences = sum(int(owners[-1]) + 1 for owners in experience.sequences)
        self._opinions = {
            name: [_opinion(model, batch) for batch in experience.batches] for name, model in opinions.items()
        }
        self._advantages = list(experience.advantages)
        self._is_kept = [torch.ones_like(values) for values in experience.advantages]

    def __call__(self, number: int, scored: Scored, pass_number: int) -> ObjectiveLoss:
        config, logprobs = self._config, scored.logprobs
        device = logprobs.device
        sampled = self._experience.sampled_logprobs[number].to(device)
        sums: dict[str, float] = {}
        if pass_number == 0:
            gaps = (logprobs.detach() - sampled).abs().cpu()
            sums |= self._compare(number, gaps)
            if "teacher" in self._opinions:
                better = self._opinions["teacher"][number] - sampled.cpu()
                self._advantages[number] = self._advantages[number] + config.teacher_weight * better
                sums["reverse_kl"] = float(-better.sum())
            sums["entropy"] = float(scored.entropies.sum())
        losses, is_clipped = clipped_policy_loss(
            logprobs, sampled, self._advantages[number].to(device), config.clip
        )
        sums["clip_share"] = float(is_clipped.sum()) / config.passes
        if config.kl_weight:
            pull = kl_to_reference(logprobs, self._opinions["reference"][number].to(device))
            losses = losses + config.kl_weight * pull
            sums["kl"] = float(pull.detach().sum()) / config.passes
        return ObjectiveLoss((losses * self._is_kept[number].to(device)).sum() / self._num_tokens, sums)

    def _compare(self, number: int, gaps: Tensor) -> dict[str, float]:
        """Takes out sequences that engine and trainer see differently; the numbers of the others must agree."""
        owners = self._experience.sequences[number]
        largest = torch.zeros(int(owners[-1]) + 1).scatter_reduce(0, owners, gaps, "amax")
        is_same = largest <= self._config.max_gap
        self._is_kept[number] = is_same.float()[owners]
        return {
            "max_gap": float(largest[is_same].max()) if is_same.any() else 0.0,
            "max_gap_of_all": float(largest.max()),
            "gap_dropped": float((~is_same).sum()),
        }

    def judged(self, metrics: StepMetrics) -> StepMetrics:
        """The step's metrics with means in the place of sums; TrainingError where engine and trainer disagree."""
        numbers = dict(metrics.numbers)
        for name in ("entropy", "clip_share", "kl", "reverse_kl"):
            if name in numbers:
                numbers[name] /= self._num_tokens
        numbers["gap_dropped"] /= self._num_sequences
        if numbers["gap_dropped"] > self._config.max_gap_share:
            raise TrainingError(
                f"step {metrics.step}: engine and trainer differ by more than {self._config.max_gap} in "
                f"{numbers['gap_dropped']:.0%} of {self._num_sequences} answers, at most by {numbers['max_gap_of_all']}"
            )
        assert numbers["max_gap"] <= self._config.max_gap
        return replace(metrics, numbers=self._experience.numbers | numbers)


@torch.no_grad()
def _opinion(model: Llama4, batch: Batch) -> Tensor:
    """What another model thinks of a batch's valid tokens."""
    scored, _ = score(model, batch.to(model.language_model.head_weight.device))
    return scored.logprobs.cpu()


def pass_at_1(
    model: Llama4, chat_format: ChatFormat, tasks: Sequence[Task], config: RlConfig
) -> dict[str, float]:
    """The share of held-out answers that are right, by task: of those sampled at temperature 1, and of greedy ones.

    The first is pass@1 as Chen et al. (2021) estimate it. It also rises when a policy only grows surer of what it
    would have said greedily, which is why both are told.
    """
    scores = {}
    for task in tasks:
        challenges = [task.challenge(number, "held_out") for number in range(config.num_held_out)]
        for name, samples, temperature in (
            (task.name, config.samples_held_out, 1.0),
            (f"{task.name}, greedy", 1, 0.0),
        ):
            groups = ask_groups(
                model,
                chat_format,
                challenges,
                example_rng(HELD_OUT_SEED, 0),
                samples=samples,
                max_tokens=config.max_answer_tokens,
                temperature=temperature,
            )
            scores[name] = sum(group.pass_rate for group in groups) / len(groups)
    return scores
