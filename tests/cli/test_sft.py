"""Fine-tuning from the outside: what the flags mean, what is said last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from camelid.cli import sft as command
from camelid.cli.main import main
from camelid.core.run_dir import RunDir
from camelid.infer.locate import SHIPPED_MODEL
from camelid.stages.sft import SftConfig

ROW = {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(ROW))
    return path


def test_two_steps_on_the_shipped_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", "true")
    words = ["sft", str(SHIPPED_MODEL), "--data", str(data), "--steps", "2", "--batch-tokens", "64"]
    assert main([*words, "--rank", "2", "--run-root", str(tmp_path / "runs")]) == 0
    (run_dir,) = (tmp_path / "runs").iterdir()
    said = capsys.readouterr().out
    assert f"adapter: {run_dir / 'adapter'}" in said and f"camelid chat {run_dir}" in said
    config = SftConfig.load(RunDir(run_dir).config_path)
    assert config.lora is not None and config.lora.rank == 2 and config.train.steps == 2
    assert json.loads((run_dir / "adapter" / "adapter_config.json").read_text())["r"] == 2


def test_flags_and_resuming(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[SftConfig, RunDir | None]] = []

    def stage(config: SftConfig, *, run_root: Path, resume: RunDir | None, observers: Any) -> RunDir:
        seen.append((config, resume))
        return resume or RunDir.create(run_root, "sft", "x", config)

    monkeypatch.setattr(command, "sft", stage)
    words = ["sft", str(SHIPPED_MODEL), "--data", str(data), "--full", "--lr", "0.5"]
    assert main([*words, "--run-root", str(tmp_path / "runs")]) == 0
    config = seen[0][0]
    assert config.lora is None and config.train.optimizer.lr == 0.5
    assert config.paths == (str(data),) and config.base == str(SHIPPED_MODEL)
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert main(["sft", "--resume", str(run_dir)]) == 0
    assert seen[1] == (config, RunDir(run_dir))


def test_without_data_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sft", str(SHIPPED_MODEL)]) == 2
    assert "needs data" in capsys.readouterr().err
