"""Preferences in miniature: margins grow, manners change, the reference is asked once, and a run can be killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from camelid.checkpoint import load_model
from camelid.core import Message
from camelid.core.errors import ConfigError, InputError
from camelid.core.run_dir import RunDir
from camelid.model import LoraConfig
from camelid.stages import dpo as stage
from camelid.stages.dpo import DpoConfig, dpo, encode_answer
from camelid.stages.starting_point import start_from
from camelid.train import OptimizerConfig, StepMetrics, TrainConfig
from camelid.train.preference_loss import PreferenceConfig
from stages.tiny_tasks import FirstLetter, save_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"Say {asked}."}], "chosen": "a", "rejected": said}
        for asked, said in zip("abcdef", "bcdefg", strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def config_for(base: Path, pairs: Path, steps: int = 8, **changes: Any) -> DpoConfig:
    optimizer = OptimizerConfig(kind="adamw", lr=2e-2, weight_decay=0.0)
    train = TrainConfig(steps, optimizer, precision="fp32", checkpoint_every=2)
    fields: dict[str, Any] = {"pairs_per_step": 4, "num_held_out": 0} | changes
    return DpoConfig(str(base), (str(pairs),), lora=LoraConfig(rank=4), train=train, **fields)


def numbers(run: RunDir) -> list[dict[str, float]]:
    return [row["numbers"] for row in run.metrics()]


@pytest.mark.parametrize(
    "loss", [PreferenceConfig(0.5), PreferenceConfig(2.0, per_token=True, sft_weight=0.1)]
)
def test_the_margin_grows_from_nothing(
    base: Path, pairs: Path, tmp_path: Path, loss: PreferenceConfig
) -> None:
    run = dpo(config_for(base, pairs, loss=loss), run_root=tmp_path)
    told = numbers(run)
    assert told[0]["margin"] == pytest.approx(0.0, abs=1e-5)  # the model is its own reference yet
    assert told[-1]["margin"] > 0.5 and told[-1]["accuracy"] == 1.0
    assert told[-1]["chosen_reward"] > told[-1]["rejected_reward"]
    assert run.notes()["num_pairs"] == 6 and len(run.notes()["digest"]) == 64


def test_cut_short_it_goes_on_to_the_same_bits_and_asks_the_reference_once(
    base: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(metrics: StepMetrics) -> None:
        if metrics.step == 3:
            raise KeyboardInterrupt

    config = config_for(base, pairs, steps=5)
    whole = dpo(config, run_root=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        dpo(config, run_root=tmp_path / "cut", observers=[interrupt])
    cut = RunDir.newest(tmp_path / "cut")
    assert cut is not None
    monkeypatch.setattr(stage, "_sums", lambda *_: pytest.fail("the reference was asked again"))
    dpo(config, run_root=tmp_path / "cut", resume=cut)
    assert numbers(whole) == numbers(cut) and len(numbers(cut)) == 5
    weights = [load_model(run.checkpoint_dir(5)).state_dict() for run in (whole, cut)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(ConfigError, match="was configured differently"):
        dpo(config.replace(seed=1), resume=cut)


def test_pairs_from_the_models_own_answers_and_from_a_variant(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "open_tasks", lambda names, pack: [FirstLetter()])
    config = DpoConfig(str(base), sampled_tasks=("first-letter",), sampled_prompts=4, num_held_out=0)
    for pair in stage._pairs(config, start_from(base, None, 0)):
        assert pair.chosen.text[:1] in tuple("abcd") and pair.chosen != pair.rejected
    config = config.replace(sampled_tasks=(), variant="instruct", num_pairs=5)
    assert len(stage._pairs(config, start_from(base, None, 0))) == 5


def test_only_the_last_answer_counts(base: Path) -> None:
    chat_format = start_from(base, None, 0).chat_format
    before = [Message.of("user", "a"), Message.of("assistant", "b"), Message.of("user", "c")]
    encoded = encode_answer(chat_format, before, Message.of("assistant", "d"))
    counted = encoded.token_ids[encoded.loss_weights > 0].tolist()
    assert counted == [*chat_format.tokenizer.encode("d"), chat_format.tokenizer.special("eot")]
    with pytest.raises(InputError):
        encode_answer(chat_format, [], Message.of("assistant", "d"))


def test_what_cannot_be_configured() -> None:
    with pytest.raises(ConfigError, match="need pairs"):
        DpoConfig("x")
    with pytest.raises(ConfigError, match="samples_per_prompt must be at least 2"):
        DpoConfig("x", variant="chatty", samples_per_prompt=1)
