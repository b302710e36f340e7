"""Reward and preference from the outside: what the flags mean, what is said last, what is drawn."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from camelid.cli import post_training as command
from camelid.cli.live_view import LiveView, PlainView
from camelid.cli.main import main
from camelid.cli.report import Report
from camelid.cli.told_changes import told_changes
from camelid.core.run_dir import RunDir
from camelid.infer.locate import SHIPPED_MODEL
from camelid.recipes.post_training import DPO_RECIPES, RL_RECIPES
from camelid.stages.dpo import DpoConfig
from camelid.stages.rl import RlConfig
from camelid.stages.sft import SftConfig
from camelid.train import StepMetrics

NOTES = {
    "before": {"tools": 0.25, "num_questions": 3},
    "after": {"tools": 0.75, "num_questions": 3},
    "digest": "0123456789abcdef" * 4,
    "filter": {"mine": {"num_dropped": 1200, "num_scored": 2000}},
}
METRICS = StepMetrics(
    step=1,
    progress=0.5,
    loss=0.1,
    loss_by_modality={},
    balance_loss=0.0,
    grad_norm=1.0,
    lr=1e-3,
    is_skipped=False,
    num_tokens=10,
    num_valid_tokens=5.0,
    num_tiles=0,
    max_vio=0.0,
    expert_counts=[],
    seconds=1.0,
    numbers={"reward": 0.25, "max_gap": 1e-5},
)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, RunDir | None]]:
    """Stages that only note what they were asked for."""
    monkeypatch.setenv("CI", "true")
    asked: list[tuple[Any, RunDir | None]] = []

    def stage(config: Any, *, run_root: Path, resume: RunDir | None, observers: Any) -> RunDir:
        asked.append((config, resume))
        run = resume or RunDir.create(run_root, "x", "y", config)
        run.note(**NOTES)
        run.append_metrics(METRICS.to_dict())
        observers[0](METRICS)
        return run

    for name in ("rl", "dpo"):
        monkeypatch.setattr(command, name, stage)
    return asked


def test_flags_of_rl(seen: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rl", str(SHIPPED_MODEL), "--task", "tools", "--task", "recall-4", "--steps", "7", "--lr", "0.5"]
    words += ["--minutes", "2", "--kl", "0.1", "--samples", "4", "--full", "--run-root", str(tmp_path)]
    assert main(words) == 0
    config, resume = seen[0]
    assert isinstance(config, RlConfig) and resume is None
    assert config.tasks == ("tools", "recall-4") and config.lora is None and config.kl_weight == 0.1
    train = config.train
    assert (train.steps, train.max_minutes, train.optimizer.lr, config.samples_per_prompt) == (7, 2.0, 0.5, 4)
    said = capsys.readouterr().out
    assert "tools: 0.25 → 0.75" in said and "weights: 0123456789abcdef\n" in said and "reward 0.25" in said
    (run_dir,) = tmp_path.iterdir()
    page = (run_dir / "report.html").read_text()
    assert "0.25 → 0.75" in page and "max gap" in page
    assert main(["rl", "--resume", str(run_dir)]) == 0
    assert seen[1] == (config, RunDir(run_dir))


def test_flags_of_dpo(seen: list[Any], tmp_path: Path) -> None:
    words = ["dpo", str(SHIPPED_MODEL), "--data", "pairs.jsonl", "--variant", "instruct", "--beta", "0.3"]
    words += ["--per-token", "--sft-weight", "0.5", "--task", "tools", "--run-root", str(tmp_path)]
    assert main(words) == 0
    config, _ = seen[0]
    assert isinstance(config, DpoConfig) and config.lora is not None
    assert (config.paths, config.variant, config.sampled_tasks) == (("pairs.jsonl",), "instruct", ("tools",))
    assert (config.loss.beta, config.loss.per_token, config.loss.sft_weight) == (0.3, True, 0.5)
    (run_dir,) = tmp_path.iterdir()
    assert main(["dpo", "--resume", str(run_dir)]) == 0
    assert seen[1] == (config, RunDir(run_dir))


def test_recipes_are_whole_and_flags_go_before_them(seen: list[Any], tmp_path: Path) -> None:
    for name, recipe in {**RL_RECIPES, **DPO_RECIPES}.items():
        words = ["rl" if name in RL_RECIPES else "dpo", str(SHIPPED_MODEL), "--recipe", name, "--steps", "3"]
        assert main([*words, "--run-root", str(tmp_path / name)]) == 0
        expected: Any = recipe()
        assert seen[-1][0] == expected.replace(train=expected.train.replace(steps=3))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["rl"], "needs a --task or a --recipe"),
        (["rl", "--recipe", "giant"], "no recipe 'giant'; there are: nano-rl"),
        (["rl", "--task", "chess", "--held-out", "0"], "no task 'chess'"),
        (["dpo"], "need pairs"),
    ],
)
def test_what_is_refused(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], str(SHIPPED_MODEL), *words[1:], "--run-root", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


def test_sft_tells_what_it_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from camelid.cli import sft as sft_command

    asked: list[SftConfig] = []

    def stage(config: SftConfig, *, run_root: Path, **_: Any) -> RunDir:
        asked.append(config)
        run = RunDir.create(run_root, "sft", "y", config)
        run.note(**NOTES)
        return run

    monkeypatch.setattr(sft_command, "sft", stage)
    words = ["sft", str(SHIPPED_MODEL), "--task", "tools", "--keep", "0.4", "--drop-solved"]
    assert main([*words, "--run-root", str(tmp_path)]) == 0
    assert asked[0].tasks == ("tools",) and asked[0].paths == ()
    assert asked[0].filter is not None and (asked[0].filter.keep, asked[0].filter.by) == (0.4, "answer")
    assert "dropped of mine: 1,200 of 2,000" in capsys.readouterr().out


def test_numbers_of_a_stage_are_shown_and_drawn() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    with console.file:
        live, plain = LiveView("a run", console), PlainView("a run", console)
        for step in range(3):
            for view in (live, plain):
                view.step(replace(METRICS, step=step, numbers={"reward": step / 4, "lost": float("nan")}))
        console.print(live.render())
        shown = console.export_text()
    assert "reward" in shown and "0.5" in shown and "lost" not in shown
    assert "reward 0.5" in plain.line()
    rows = [replace(METRICS, step=step).to_dict() for step in (1, 2)]
    page = Report("a run", rows).html()
    assert "<figcaption>reward</figcaption>" in page and "Loss per modality" not in page


def test_notes_of_a_run_cut_short_have_no_end() -> None:
    assert told_changes({"before": {"tools": 0.25}, "num_pairs": 1200}) == {
        "num_pairs": "1,200",
        "tools": "0.25",
    }
