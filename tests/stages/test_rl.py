"""Learning by reward in miniature: a trivial reward is learnt in seconds, and a run can be killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from camelid.checkpoint import load_model
from camelid.core import ModelInput
from camelid.core.errors import ConfigError, TrainingError
from camelid.core.run_dir import RunDir
from camelid.data.verifiable import PoolConfig
from camelid.infer.rollouts import Rollout
from camelid.model import LoraConfig
from camelid.stages.experience import Group, ask_groups, pack_experience
from camelid.stages.rl import RlConfig, rl
from camelid.stages.starting_point import start_from
from camelid.train import OptimizerConfig, StepMetrics, TrainConfig
from stages.tiny_tasks import FirstLetter, save_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def config_for(base: Path, steps: int, **changes: Any) -> RlConfig:
    optimizer = OptimizerConfig(kind="adamw", lr=2e-2, weight_decay=0.0)
    train = TrainConfig(steps, optimizer, precision="fp32", checkpoint_every=2)
    fields: dict[str, Any] = {"prompts_per_step": 4, "max_answer_tokens": 4, "num_held_out": 8} | changes
    return RlConfig(
        str(base),
        ("first-letter",),
        LoraConfig(rank=4),
        train,
        PoolConfig(size=8, high=1.0, low=0.0),
        **fields,
    )


def learn(config: RlConfig, root: Path, **options: Any) -> RunDir:
    return rl(config, run_root=root, tasks=[FirstLetter()], **options)


def numbers(run: RunDir) -> list[dict[str, float]]:
    return [row["numbers"] for row in run.metrics()]


def test_a_trivial_reward_is_learnt(base: Path, tmp_path: Path) -> None:
    run = learn(config_for(base, 12), tmp_path)
    told = numbers(run)
    assert told[0]["reward"] < 0.8 and np.mean([step["reward"] for step in told[-3:]]) > 0.9
    assert all(step["max_gap"] <= 1e-4 for step in told)
    assert told[-1]["entropy"] < told[0]["entropy"]
    notes = run.notes()
    assert notes["after"]["first-letter, greedy"] == 1.0 and notes["before"].keys() == notes["after"].keys()
    assert notes["before"]["first-letter"] < 0.8 and notes["after"]["first-letter"] > 0.9
    assert len(notes["digest"]) == 64


def test_cut_short_it_goes_on_to_the_same_bits(base: Path, tmp_path: Path) -> None:
    def interrupt(metrics: StepMetrics) -> None:
        if metrics.step == 3:
            raise KeyboardInterrupt

    config = config_for(base, 5, passes=2, kl_weight=0.05, num_held_out=0)
    whole = learn(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        learn(config, tmp_path / "cut", observers=[interrupt])
    cut = RunDir.newest(tmp_path / "cut")
    assert cut is not None and cut.checkpoint_steps() == [2]
    learn(config, tmp_path / "cut", resume=cut)
    assert numbers(whole) == numbers(cut) and len(numbers(cut)) == 5
    assert numbers(cut)[-1]["kl"] > 0
    weights = [load_model(run.checkpoint_dir(5)).state_dict() for run in (whole, cut)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(ConfigError, match="was configured differently"):
        learn(config.replace(seed=1), tmp_path, resume=cut)


def test_a_teacher_pulls_where_rewards_say_nothing(base: Path, tmp_path: Path) -> None:
    """The teacher has learnt the reward; the student sees none of it."""

    class Unpaid(FirstLetter):
        def challenge(self, number: int, split: Any = "train") -> Any:
            challenge = super().challenge(number, split)
            return type(challenge)(challenge.messages, lambda said: 0.0, challenge.answer)

    teacher = learn(config_for(base, 12, num_held_out=0), tmp_path / "teacher").latest_checkpoint()
    config = config_for(base, 12, num_held_out=0, teacher=str(teacher))
    run = rl(config, run_root=tmp_path / "student", tasks=[Unpaid()])
    distances = [step["reverse_kl"] for step in numbers(run)]
    assert np.mean(distances[-3:]) < 0.5 * np.mean(distances[:2])


def test_prompts_of_which_nothing_can_be_learnt_end_the_run(base: Path, tmp_path: Path) -> None:
    class Hopeless(FirstLetter):
        def challenge(self, number: int, split: Any = "train") -> Any:
            challenge = super().challenge(number, split)
            return type(challenge)(challenge.messages, lambda said: 0.0, challenge.answer)

    with pytest.raises(TrainingError, match="too easy or too hard"):
        rl(config_for(base, 2, num_held_out=0), run_root=tmp_path, tasks=[Hopeless()])
    run = RunDir.open(next(tmp_path.iterdir()))
    assert run.status()["status"] == "failed"


def test_an_engine_that_disagrees_ends_the_run(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(*args: Any, **options: Any) -> list[Group]:
        return [
            Group(
                group.prompt,
                tuple(
                    Rollout(one.token_ids, tuple(x - 0.01 for x in one.logprobs), one.text, one.finish_reason)
                    for one in group.rollouts
                ),
                group.rewards,
            )
            for group in ask_groups(*args, **options)
        ]

    monkeypatch.setattr("camelid.stages.rl.ask_groups", shifted)
    with pytest.raises(TrainingError, match=r"differ by more than 0.0001 in 100%"):
        learn(config_for(base, 2, num_held_out=0), tmp_path)


def test_groups_of_equal_reward_are_dropped_and_the_rest_is_packed() -> None:
    prompt = ModelInput.of_text(range(5))
    rollouts = tuple(Rollout((7,) * length, (-1.0,) * length, "", "stop") for length in (1, 3))
    groups = [Group(prompt, rollouts, rewards) for rewards in ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0))]
    experience = pack_experience(groups, batch_tokens=64)
    (batch,) = experience.batches
    assert batch.document_lengths == (6, 8) and batch.num_valid_tokens == 4
    assert experience.advantages[0].tolist() == [0.5, -0.5, -0.5, -0.5]
    assert experience.sequences[0].tolist() == [0, 1, 1, 1]
    assert experience.numbers["groups_dropped"] == pytest.approx(2 / 3)
    assert experience.numbers["pass_rate"] == 0.5
    assert [batch.document_lengths for batch in pack_experience(groups, 8).batches] == [(6,), (8,)]
    assert len(pack_experience(groups, 64, keeps_all=True).batches[0].document_lengths) == 6


def test_answers_that_were_cut_off_earn_nothing(base: Path) -> None:
    start = start_from(base, None, 0)
    challenges = [FirstLetter().challenge(number) for number in range(4)]
    seeds = np.random.default_rng(0)
    groups = ask_groups(start.model, start.chat_format, challenges, seeds, samples=4, max_tokens=1)
    assert {reward for group in groups for reward in group.rewards} == {0.0}


def test_what_cannot_be_configured(base: Path) -> None:
    with pytest.raises(ConfigError, match="needs precision fp32"):
        RlConfig("x", ("tools",), train=TrainConfig(1))
    with pytest.raises(ConfigError, match="samples_per_prompt must be at least 2"):
        config_for(base, 1, samples_per_prompt=1)
    config = config_for(base, 3)
    assert RlConfig.from_dict(json.loads(config.to_json())) == config
