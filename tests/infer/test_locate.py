"""Which weights a command takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from camelid.core.errors import CheckpointError
from camelid.core.run_dir import COMPLETE
from camelid.infer import locate
from camelid.infer.locate import choose_model


def make_model(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"")
    return directory


def make_run(root: Path, name: str, *steps: int, is_complete: bool = True) -> Path:
    run_dir = root / name
    run_dir.mkdir(parents=True)
    (run_dir / "run.json").write_text("{}")
    (run_dir / "config.json").write_text("{}")
    for step in steps:
        checkpoint = make_model(run_dir / "checkpoints" / f"step-{step}")
        if is_complete:
            (checkpoint / COMPLETE).write_text("{}")
    return run_dir


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = make_model(tmp_path / "shipped")
    monkeypatch.setattr(locate, "SHIPPED_MODEL", path)
    return path


def test_a_name_may_be_a_run_a_checkpoint_or_a_model(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, "1-run", 5, 100, 20)
    newest = run_dir / "checkpoints" / "step-100"
    assert choose_model(run_dir) == newest
    assert choose_model(newest.with_name("step-5")) == newest.with_name("step-5")
    model_dir = make_model(tmp_path / "model")
    assert choose_model(model_dir) == model_dir


def test_without_a_name_the_newest_finished_checkpoint_counts(tmp_path: Path, shipped: Path) -> None:
    root = tmp_path / "runs"
    older = make_run(root, "20260101-a", 7)
    make_run(root, "20260102-b", 8, is_complete=False)
    make_run(root, "20260103-c")
    assert choose_model(None, root) == older / "checkpoints" / "step-7"


def test_without_any_run_the_shipped_weights_answer(tmp_path: Path, shipped: Path) -> None:
    assert choose_model(None, tmp_path / "runs") == shipped


def test_where_nothing_can_be_loaded_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="neither a run"):
        choose_model(tmp_path)
    monkeypatch.setattr(locate, "SHIPPED_MODEL", tmp_path / "none")
    with pytest.raises(CheckpointError, match="camelid demo"):
        choose_model(None, tmp_path)


def test_a_model_that_ships_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless something of that name lies here."""
    monkeypatch.chdir(tmp_path)
    assert choose_model("nano-scout") == locate.SHIPPED_MODEL
    here = make_model(tmp_path / "nano-scout")
    assert choose_model("nano-scout").resolve() == here
    with pytest.raises(CheckpointError, match="no-such-model"):
        choose_model("no-such-model")
