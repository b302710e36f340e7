"""A run's folder: names, status, metrics, and which checkpoints there are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from camelid.core.config import Config
from camelid.core.errors import CheckpointError
from camelid.core.run_dir import COMPLETE, RunDir


@dataclass(frozen=True)
class Numbers(Config):
    """Something to configure."""

    width: int = 3


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run without a step."""
    return RunDir.create(tmp_path / "runs", "pretrain", "nano", Numbers(), ["camelid", "x"], ["parent"])


def add_checkpoint(run: RunDir, step: int, *, is_complete: bool = True) -> None:
    run.checkpoint_dir(step).mkdir()
    if is_complete:
        (run.checkpoint_dir(step) / COMPLETE).touch()


def test_a_new_run_says_what_it_is(run: RunDir) -> None:
    assert re.fullmatch(rf"\d{{8}}-\d{{6}}-pretrain-nano-{Numbers().digest[:8]}", run.path.name)
    assert Numbers.load(run.config_path) == Numbers()
    status = json.loads((run.path / "run.json").read_text())
    assert status == run.status()
    assert status["schema"] == "run/1"
    assert status["status"] == "running"
    assert (status["argv"], status["parents"]) == (["camelid", "x"], ["parent"])
    assert status["packages"]["torch"].startswith("2.")
    assert status["git_revision"] is None or re.fullmatch(r"[0-9a-f]{40}", status["git_revision"])
    assert run.metrics() == []


def test_runs_of_one_second_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda pattern: "20250405-120000")
    names = [RunDir.create(tmp_path, "sft", "nano", Numbers()).path.name for _ in range(3)]
    stem = f"20250405-120000-sft-nano-{Numbers().digest[:8]}"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_status_changes_and_nothing_else(run: RunDir) -> None:
    before = run.status()
    run.set_status("interrupted")
    assert run.status() == before | {"status": "interrupted"}


def test_only_complete_checkpoints_exist(run: RunDir) -> None:
    assert run.latest_checkpoint() is None
    for step in (20, 100, 3):
        add_checkpoint(run, step)
    add_checkpoint(run, 200, is_complete=False)
    for stray in (".step-7.tmp", "step-8.tmp", "step-x", "old-step-9"):
        folder = run.checkpoint_dir(0).with_name(stray)
        folder.mkdir()
        (folder / COMPLETE).touch()
    assert run.checkpoint_steps() == [3, 20, 100]
    assert run.latest_checkpoint() == run.checkpoint_dir(100)


def test_the_newest_run_is_the_last_one_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RunDir.newest(tmp_path / "nowhere") is None
    runs = []
    for day in ("20250401", "20250403", "20250402", "20250404"):
        monkeypatch.setattr("time.strftime", lambda pattern, day=day: f"{day}-000000")
        runs.append(RunDir.create(tmp_path, "pretrain", "nano", Numbers()))
    assert RunDir.newest(tmp_path) is None
    for run in runs[:3]:
        add_checkpoint(run, 5)
    add_checkpoint(runs[3], 5, is_complete=False)
    assert RunDir.newest(tmp_path) == runs[1]


def test_metrics_without_the_line_that_a_crash_cut(run: RunDir) -> None:
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 5)]
    for row in rows:
        run.append_metrics(row)
    assert run.metrics() == rows
    with run.metrics_path.open("a") as file:
        file.write('{"step": 5, "lo')
    assert run.metrics() == rows

    run.truncate_metrics(3)
    run.append_metrics({"step": 4, "loss": 0.5})
    assert run.metrics() == [*rows[:3], {"step": 4, "loss": 0.5}]
    run.truncate_metrics(0)
    assert run.metrics() == []


def test_numbers_that_json_has_not_become_null(run: RunDir) -> None:
    run.append_metrics({"loss": float("nan"), "by": {"text": float("inf")}, "counts": [[1, 2]]})
    assert run.metrics() == [{"loss": None, "by": {"text": None}, "counts": [[1, 2]]}]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, run: RunDir) -> None:
    assert RunDir.open(run.path) == run
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path} is not a run")):
        RunDir.open(tmp_path)
