"""Fine-tuning in miniature: what a run leaves behind, what stands still, and that it can be killed."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch

from camelid.checkpoint import load_model, save_model
from camelid.checkpoint.peft_layout import load_adapter
from camelid.core import Message, SamplingParams
from camelid.core.errors import ConfigError, DataError
from camelid.core.run_dir import RunDir
from camelid.data.loader import example_rng
from camelid.data.verifiable import TaskExamples, open_tasks
from camelid.infer import Generator
from camelid.inputs import Tokenizer
from camelid.model import Llama4, LoraConfig, init_weights, merged_state_dict
from camelid.stages.easy_examples import FilterConfig, HardExamples, difficulty, without_easy
from camelid.stages.sft import SftConfig, sft
from camelid.stages.starting_point import start_from
from camelid.train import OptimizerConfig, StepMetrics, TrainConfig
from stages.tiny_pretrain import MODEL

FACTS = (("What do camels drink?", "A lot of water."), ("Who carries it?", "The hump does."))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows nothing yet."""
    path = tmp_path_factory.mktemp("base")
    data = (resources.files("camelid.starter") / "tokenizer.model").read_bytes()
    (path / "tokenizer.model").write_bytes(data)
    tokenizer = Tokenizer.from_file(path / "tokenizer.model", vocab_size=MODEL.text.vocab_size)
    save_model(init_weights(Llama4(MODEL), 0), path, torch.float32, tokenizer.num_special_tokens)
    return path


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in FACTS
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def config_for(base: Path, facts: Path, steps: int = 40, **changes: Any) -> SftConfig:
    train = TrainConfig(steps, OptimizerConfig(kind="adamw", lr=2e-2, weight_decay=0.0), checkpoint_every=10)
    return SftConfig(str(base), (str(facts),), train=train, batch_tokens=128, max_document_tokens=64).replace(
        **changes
    )


@pytest.fixture(scope="module")
def finished(base: Path, facts: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return sft(config_for(base, facts), run_root=tmp_path_factory.mktemp("runs"))


def test_adapters_alone_learn_the_answers(finished: RunDir, base: Path) -> None:
    checkpoint = finished.latest_checkpoint()
    assert checkpoint is not None
    generator = Generator.load(checkpoint)
    for asked, said in FACTS:
        completion = generator.complete([Message.of("user", asked)], SamplingParams(max_tokens=20))
        assert completion.text == said


def test_a_checkpoint_is_the_base_with_the_adapter_in_it(finished: RunDir, base: Path) -> None:
    checkpoint = finished.latest_checkpoint()
    assert checkpoint is not None
    adapted = load_model(base)
    assert load_adapter(adapted, finished.adapter_dir) == LoraConfig()
    merged, stored, before = merged_state_dict(adapted), load_model(checkpoint).state_dict(), load_model(base)
    assert merged.keys() == stored.keys()
    changed = set()
    for name, value in before.state_dict().items():
        torch.testing.assert_close(merged[name], stored[name], atol=1e-6, rtol=0)
        if not torch.equal(value, stored[name]):
            changed.add(name.split(".")[-2 if name.endswith("weight") else -1])
    assert {"q_proj", "o_proj", "gate_up_proj", "down_proj"} <= changed
    assert not {"embed_tokens", "lm_head", "router", "norm", "fc1"} & changed


def test_a_run_cut_short_goes_on_to_the_same_bits(base: Path, facts: Path, tmp_path: Path) -> None:
    def interrupt(metrics: StepMetrics) -> None:
        if metrics.step == 15:
            raise KeyboardInterrupt

    config = config_for(base, facts, steps=20)
    whole = sft(config, run_root=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        sft(config, run_root=tmp_path / "cut", observers=[interrupt])
    cut = RunDir.newest(tmp_path / "cut")
    assert cut is not None and cut.checkpoint_steps() == [10]
    sft(config, run_root=tmp_path / "cut", resume=cut)
    losses = [[row["loss"] for row in run.metrics()] for run in (whole, cut)]
    assert losses[0] == losses[1] and len(losses[0]) == 20
    weights = [load_model(run.checkpoint_dir(20)).state_dict() for run in (whole, cut)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(ConfigError, match="was configured differently"):
        sft(config.replace(seed=1), resume=cut)


def test_without_adapters_everything_learns(base: Path, facts: Path, tmp_path: Path) -> None:
    config = config_for(base, facts, steps=2, lora=None)
    run = sft(config, run_root=tmp_path)
    after, before = load_model(run.checkpoint_dir(2)).state_dict(), load_model(base).state_dict()
    unmoved = {name for name, value in before.items() if torch.equal(value, after[name])}
    # No picture was shown.
    assert not any(name.startswith("language_model") for name in unmoved)
    assert not run.adapter_dir.exists()


def test_no_data_is_no_run(base: Path) -> None:
    with pytest.raises(ConfigError, match="needs data"):
        SftConfig(str(base), ())


def test_models_with_another_tokenizer_are_refused(facts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no tokenizer\.model: dense ancestors"):
        sft(config_for(tmp_path / "dense.gguf", facts), run_root=tmp_path)


def test_what_the_base_can_do_is_dropped_and_told(facts: Path, finished: RunDir, tmp_path: Path) -> None:
    """A model that knows two facts is given these and a third."""
    path = tmp_path / "more.jsonl"
    more = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]}
    path.write_text(facts.read_text() + "\n" + json.dumps(more))
    knowing = finished.latest_checkpoint()
    assert knowing is not None
    for keep, by, num_solved, draws in ((1.0, "answer", 2, 1), (0.34, "loss", 2, 1), (1.0, "loss", 2, 3)):
        config = config_for(knowing, path, steps=1, filter=FilterConfig(keep, by=by))
        note = sft(config, run_root=tmp_path / f"{keep}-{by}").notes()["filter"]["more"]
        assert (note["num_scored"], note["num_unusable"], note["num_solved"]) == (3, 0, num_solved)
        assert len(note["draws"]) == draws and note["num_dropped"] == 3 - draws
    with pytest.raises(DataError, match="can do all of its 2 examples"):
        sft(config_for(knowing, facts, steps=1, filter=FilterConfig(1.0, by="answer")), run_root=tmp_path)


def test_the_hardest_are_kept(base: Path) -> None:
    start = start_from(base, None, 0)
    (task,) = open_tasks(["recall-3"])
    examples = TaskExamples(task)
    run = RunDir.create(base.parent / "filter", "sft", "x", FilterConfig())
    (kept,) = without_easy({examples: 1.0}, FilterConfig(0.25, num_scored=8), start, 256, 0, run)
    assert isinstance(kept, HardExamples) and len(kept) == 2
    nats = {}
    for draw in range(8):
        conversation = examples.example(draw, example_rng(0, draw))
        nats[draw] = difficulty(start.model, start.chat_format.encode(conversation.messages)).nats
    assert set(run.notes()["filter"]["recall-3"]["draws"]) == set(sorted(nats, key=nats.__getitem__)[-2:])
    drawn = {kept.example(index, example_rng(1, index)).messages for index in range(4)}
    assert len(drawn) == 2


def test_tasks_are_data_too(base: Path, tmp_path: Path) -> None:
    config = config_for(base, tmp_path, steps=1).replace(
        paths=(), tasks=("tools", "recall-2"), max_document_tokens=128
    )
    config = config.replace(filter=FilterConfig(0.5, num_scored=4))
    notes = sft(config, run_root=tmp_path).notes()["filter"]
    assert {name: note["num_dropped"] for name, note in notes.items()} == {"tools": 2, "recall-2": 2}
