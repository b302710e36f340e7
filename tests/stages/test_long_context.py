"""Mid-training in miniature: longer documents, temperature, a new promise, measured before and after, killed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch

from camelid.checkpoint import load_config, load_model, save_model
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.data import StarterWeights
from camelid.eval import LongContextReport
from camelid.infer import Generator
from camelid.inputs import Tokenizer
from camelid.model import Llama4, Llama4Config, init_weights
from camelid.recipes.long_context import nano_long_context
from camelid.stages.long_context import LengthTests, LongContextConfig, LongWeights, long_context
from camelid.train import StepMetrics, TrainConfig
from stages.tiny_pretrain import MODEL


def save_base(path: Path, config: Llama4Config) -> Path:
    path.mkdir()
    data = (resources.files("camelid.starter") / "tokenizer.model").read_bytes()
    (path / "tokenizer.model").write_bytes(data)
    tokenizer = Tokenizer.from_file(path / "tokenizer.model", vocab_size=config.text.vocab_size)
    save_model(init_weights(Llama4(config), 0), path, torch.float32, tokenizer.num_special_tokens)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without temperature that promises 100,000 tokens."""
    text = MODEL.text.replace(attn_temperature_tuning=False, max_position_embeddings=100_000)
    return save_base(tmp_path_factory.mktemp("base") / "base", MODEL.replace(text=text))


def config_for(base: Path, steps: int = 3, tests: LengthTests | None = None) -> LongContextConfig:
    return LongContextConfig(
        str(base),
        length=600,
        promise=2400,
        weights=LongWeights(short=0.5),
        starter=StarterWeights(which_of=0, scenes=0, clips=0, motion=0, prose=0, glosses=0, words=0),
        tests=tests,
        train=TrainConfig(steps, checkpoint_every=2, keep_checkpoints=3, precision="fp32"),
    )


def test_a_run_leaves_a_longer_promise_and_both_measurements(base: Path, tmp_path: Path) -> None:
    seen: list[StepMetrics] = []
    tests = LengthTests(lengths=(128, 1200), num_problems=1, num_texts=1)
    run = long_context(config_for(base, 3, tests), run_root=tmp_path, observers=[seen.append])
    saved = load_config(run.checkpoint_dir(3))
    assert saved.text.max_position_embeddings == 2400
    assert saved.text.attn_temperature_tuning and saved.text.floor_scale == MODEL.text.attention_chunk_size
    reports = [LongContextReport.load(run.evals_dir / f"{moment}.json") for moment in ("before", "after")]
    for report in reports:
        assert [(s.kind, s.length) for s in report.scores] == [
            (kind, length) for kind in ("recall", "tracking") for length in (128, 1200)
        ]
        assert all(0.5 * s.length < s.mean_tokens < s.length for s in report.scores)
        assert [loss.end for loss in report.losses] == [128, 256, 512, 1024]
    assert reports[0].losses[0].nats_per_token > reports[1].losses[0].nats_per_token
    # Novels and pictures both were learnt from.
    modalities = {modality for metrics in seen for modality in metrics.loss_by_modality}
    assert max(metrics.num_tokens for metrics in seen) > 300 and {"text", "image"} <= modalities


def test_a_run_cut_short_goes_on_to_the_same_bits(base: Path, tmp_path: Path) -> None:
    def interrupt(metrics: StepMetrics) -> None:
        if metrics.step == 3:  # before its checkpoint
            raise KeyboardInterrupt

    config = config_for(base, 3)
    whole = long_context(config, run_root=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        long_context(config, run_root=tmp_path / "cut", observers=[interrupt])
    cut = RunDir.newest(tmp_path / "cut")
    assert cut is not None and cut.checkpoint_steps() == [2]
    with pytest.raises(ConfigError, match="was configured differently"):
        long_context(config.replace(seed=1), resume=cut)
    long_context(config, run_root=tmp_path / "cut", resume=cut)
    weights = [load_model(run.checkpoint_dir(3)).state_dict() for run in (whole, cut)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not whole.evals_dir.exists()


def test_what_cannot_be_lengthened_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"temperature's first step is at 64 tokens, the length is 60"):
        long_context(config_for(base).replace(length=60), run_root=tmp_path)
    with pytest.raises(ConfigError, match="a promise of 500 tokens is less than the 600"):
        config_for(base).replace(promise=500)
    chunks_alone = MODEL.replace(text=MODEL.text.replace(layer_types=("chunked", "chunked")))
    with pytest.raises(ConfigError, match="no global layer"):
        long_context(config_for(save_base(tmp_path / "chunks", chunks_alone)), run_root=tmp_path)
    with pytest.raises(ConfigError, match=r"has no tokenizer\.model"):
        long_context(config_for(tmp_path), run_root=tmp_path)


def test_nats_of_tokens_sum_to_those_of_the_document(base: Path) -> None:
    generator = Generator.load(base)
    text = "It is a truth universally acknowledged. " * 150
    nats = generator.token_nats(text)
    assert len(nats) > 500
    assert sum(nats) == pytest.approx(generator.document_nats(text), rel=1e-5)


def test_the_recipe_can_be_configured() -> None:
    recipe = nano_long_context("somewhere")
    assert LongContextConfig.from_json(recipe.to_json()) == recipe and recipe.length == 16 * 512
