"""One stage of a model's life: what a run leaves behind, who may look on, what is refused before it starts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from torch import Tensor
from transformers import Llama4ForConditionalGeneration
from transformers.utils import logging

from camelid.checkpoint import load_model
from camelid.core import Message, SamplingParams
from camelid.core.errors import ConfigError, DataError
from camelid.core.run_dir import RunDir
from camelid.infer import Generator
from camelid.inputs import ChatFormat, Tokenizer
from camelid.model import Llama4, init_weights
from camelid.stages import pretrain as stage
from camelid.stages.pretrain import DataConfig, PretrainConfig, pretrain
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_config
from camelid.train import StepMetrics
from stages.tiny_pretrain import MODEL, tiny_pretrain_config

STEPS = 4
QUESTION = [Message.of("user", "What is a camel?")]
BRIEFLY = SamplingParams(max_tokens=6)

logging.disable_progress_bar()


class Finished(NamedTuple):
    """A run of four steps, and what those saw who looked on."""

    run: RunDir
    model: Llama4
    before: dict[str, Tensor]
    events: list[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """It is asked something before its first step and after every one."""
    before: dict[str, Tensor] = {}
    events: list[str] = []
    started: list[tuple[Llama4, Generator]] = []

    def on_start(run: RunDir, model: Llama4, chat_format: ChatFormat) -> None:
        started.append((model, Generator(model, chat_format)))
        before.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        ask(f"start in {run.status()['status']}")

    def ask(event: str) -> None:
        events.append(event)
        started[0][1].complete(QUESTION, BRIEFLY)

    def observe(metrics: StepMetrics) -> None:
        ask(f"step {metrics.step}")

    root = tmp_path_factory.mktemp("runs")
    run = pretrain(tiny_pretrain_config(STEPS), run_root=root, observers=[observe], on_start=on_start)
    return Finished(run, started[0][0], before, events)


def checkpoint(run: RunDir) -> Path:
    path = run.latest_checkpoint()
    assert path is not None
    return path


def test_a_run_is_on_record(finished: Finished) -> None:
    run, config = finished.run, tiny_pretrain_config(STEPS)
    status = run.status()
    assert (status["status"], status["stage"], status["preset"]) == ("finished", "pretrain", "tiny")
    assert run.path.name.endswith(f"-pretrain-tiny-{config.digest[:8]}")
    assert PretrainConfig.load(run.config_path) == config
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]
    assert finished.events == ["start in running", "step 1", "step 2", "step 3", "step 4"]
    assert {row["num_tokens"] <= 512 for row in run.metrics()} == {True}


def test_it_starts_from_seeded_weights_that_know_nothing(finished: Finished) -> None:
    expected = init_weights(Llama4(MODEL), tiny_pretrain_config().seed).state_dict()
    assert expected.keys() == finished.before.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in finished.before.items())
    assert finished.run.metrics()[0]["loss"] == pytest.approx(math.log(5120), abs=1.0)


def test_every_parameter_learns_from_the_first_steps_on(finished: Finished) -> None:
    still = {
        name
        for name, tensor in finished.model.state_dict().items()
        if torch.equal(tensor, finished.before[name])
    }
    assert still == set()


def test_being_asked_changes_nothing(finished: Finished, tmp_path: Path) -> None:
    alone = pretrain(tiny_pretrain_config(STEPS), run_root=tmp_path)
    curves = [[row["loss"] for row in run.metrics()] for run in (finished.run, alone)]
    assert curves[0] == curves[1]
    weights = [(checkpoint(run) / "model.safetensors").read_bytes() for run in (finished.run, alone)]
    assert weights[0] == weights[1]


def test_a_checkpoint_is_a_model(finished: Finished) -> None:
    loaded = load_model(checkpoint(finished.run))
    assert loaded.config == MODEL
    for name, tensor in finished.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    answers = [
        generator.complete(QUESTION, BRIEFLY)
        for generator in (
            Generator.load(checkpoint(finished.run)),
            Generator(finished.model, Generator.load(checkpoint(finished.run)).chat_format),
        )
    ]
    assert answers[0] == answers[1]


def test_a_checkpoint_is_a_model_to_transformers_too(finished: Finished) -> None:
    theirs, report = Llama4ForConditionalGeneration.from_pretrained(
        checkpoint(finished.run), dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values()), report
    ours = finished.model.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.state_dict().items())


def test_a_finished_run_has_nothing_left_to_do(finished: Finished) -> None:
    before = finished.run.metrics_path.read_bytes()

    def observe(metrics: StepMetrics) -> None:
        pytest.fail("a step too many")

    assert pretrain(tiny_pretrain_config(STEPS), resume=finished.run, observers=[observe]) == finished.run
    assert finished.run.metrics_path.read_bytes() == before
    assert finished.run.status()["status"] == "finished"


def test_a_run_goes_on_only_as_it_began(finished: Finished) -> None:
    before = finished.run.status()
    with pytest.raises(ConfigError, match="was configured differently"):
        pretrain(tiny_pretrain_config(STEPS + 1), resume=finished.run)
    assert finished.run.status() == before


def own_data_config(folder: Path, **data: Any) -> PretrainConfig:
    """A byte vocabulary of its own and no starter pack."""
    tokenizer = Tokenizer({bytes([value]): value for value in range(256)}, NUM_SPECIAL_TOKENS)
    tokenizer.save(folder / "bytes.model")
    small = tiny_config("dense", vision=True)
    config = tiny_pretrain_config(2, **{"starter": None} | data)
    return config.replace(model=small, tokenizer=str(folder / "bytes.model"))


@pytest.fixture
def own_data(tmp_path: Path) -> tuple[str, ...]:
    """The same forty texts in every form that is read."""
    texts = [f"{number} camels" for number in range(40)]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "table.parquet")
    (tmp_path / "folder").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "folder" / f"{number}.txt").write_text(text)
    return tuple(str(tmp_path / name) for name in ("lines.jsonl", "table.parquet", "folder"))


def test_own_data_and_an_own_vocabulary(own_data: tuple[str, ...], tmp_path: Path) -> None:
    config = own_data_config(tmp_path, paths=own_data, path_weights=(1.0, 2.0, 1.0))
    run = pretrain(config, run_root=tmp_path / "runs")
    state = json.loads((checkpoint(run) / "loader.json").read_text())["loader"]
    assert state["drawn"].keys() == {"lines", "table", "folder"}
    assert state["drawn"]["table"] > state["drawn"]["lines"]
    assert state["skipped"] == {}
    vocabulary = (tmp_path / "bytes.model").read_bytes()
    assert (checkpoint(run) / "tokenizer.model").read_bytes() == vocabulary
    assert Generator.load(checkpoint(run)).complete(QUESTION, BRIEFLY).usage.completion_tokens > 0


def test_the_seed_shuffles_own_data(own_data: tuple[str, ...]) -> None:
    for path in own_data:
        orders = []
        for seed in (0, 0, 1):
            (source,) = stage._mixture(DataConfig(starter=None, paths=(path,)), seed).sources
            orders.append([str(source.example(index, np.random.default_rng(0))) for index in range(40)])
        assert orders[0] == orders[1] != orders[2], path
        assert sorted(orders[0]) == sorted(orders[2])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"paths": ("a.jsonl", "b.jsonl"), "path_weights": (1.0,)}, "2 paths but 1 path_weights"),
        ({"paths": ("camels.csv",)}, r"camels\.csv: expected a \.jsonl file, a \.parquet file or a folder"),
        ({"paths": ("nowhere.jsonl",)}, r"nowhere\.jsonl: No such file"),
        ({}, "a mixture needs a source"),
    ],
)
def test_data_that_cannot_be_is_refused_before_there_is_a_run(
    data: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError), match=words):
        pretrain(own_data_config(tmp_path, **data), run_root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_vocabulary_that_does_not_fit_the_model(tmp_path: Path) -> None:
    config = tiny_pretrain_config().replace(model=tiny_config(vision=True))
    with pytest.raises(DataError, match=r"tokenizer\.model: .* special tokens, not -\d+"):
        pretrain(config, run_root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
