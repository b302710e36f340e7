"""Checkpoints: all there or not there, and nobody may touch them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

from camelid.checkpoint.train_state import TrainState, load_train_state, remove_train_state, save_train_state
from camelid.core.errors import CheckpointError
from camelid.core.run_dir import COMPLETE

STATE = TrainState(
    model={"weight": torch.arange(6.0).view(2, 3).T, "small": torch.ones(2, dtype=torch.bfloat16)},
    optimizer={"weight|step": torch.tensor(3.0), "weight|exp_avg": torch.randn(3, 2)},
    rng={"torch": torch.get_rng_state()},
    loader={"step": 5, "seconds": 0.1, "loader": {"next_example": 12, "drawn": {"a": 3}}},
)
FILES: dict[str, str | bytes] = {"config.json": '{"a": 1}', "tokenizer.model": b"\x00\xff"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A complete checkpoint."""
    directory = tmp_path / "checkpoints" / "step-5"
    save_train_state(directory, STATE, FILES)
    return directory


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_what_goes_in_comes_out(saved: Path) -> None:
    back = load_train_state(saved)
    assert back.loader == STATE.loader
    for ours, theirs in (
        (back.model, STATE.model),
        (back.optimizer, STATE.optimizer),
        (back.rng, STATE.rng),
    ):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype
            assert torch.equal(ours[name], tensor), name
    assert (saved / "tokenizer.model").read_bytes() == FILES["tokenizer.model"]
    assert names(saved.parent) == {"step-5"}


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optim.safetensors", "rng.safetensors", "loader.json", "config.json"]
)
def test_every_file_is_guarded(saved: Path, name: str) -> None:
    path = saved / name
    data = path.read_bytes()
    size = f"{len(data):,}"

    path.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match=rf"{name} has {len(data) - 1:,} bytes, expected {size}"):
        load_train_state(saved)

    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(
        CheckpointError, match=rf"{name} \({size} bytes\) was changed: sha256 \w+, expected \w+"
    ):
        load_train_state(saved)

    path.unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_train_state(saved)


def test_without_its_last_file_it_does_not_exist(saved: Path) -> None:
    (saved / COMPLETE).unlink()
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        load_train_state(saved)
    save_train_state(saved, STATE, FILES)
    assert load_train_state(saved).loader == STATE.loader


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 3}'])
def test_a_broken_list_is_refused(saved: Path, text: str) -> None:
    (saved / COMPLETE).write_text(text)
    with pytest.raises(CheckpointError, match=rf"COMPLETE \({len(text)} bytes\) does not list"):
        load_train_state(saved)


def test_a_list_cannot_leave_a_file_out(saved: Path) -> None:
    (saved / COMPLETE).write_text('{"sha256": {}}')
    with pytest.raises(CheckpointError, match="was changed"):
        load_train_state(saved)


def test_complete_checkpoints_are_never_written_again(saved: Path) -> None:
    with pytest.raises(AssertionError, match="complete"):
        save_train_state(saved, STATE, FILES)


def test_a_full_disk_is_seen_beforehand(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(saved)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=50))
    with pytest.raises(CheckpointError, match=r"step-6: needs 56 bytes, the disk has 50 free"):
        save_train_state(saved.with_name("step-6"), STATE, FILES)
    assert names(saved.parent) == {"step-5"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["full", "over quota"])
def test_a_disk_that_fills_up_meanwhile(saved: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    synced = []

    def fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 3:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointError, match=r"step-6: the disk is full: 56 bytes needed, [\d,]+ were free"):
        save_train_state(saved.with_name("step-6"), STATE, FILES)
    assert names(saved.parent) == {"step-5"}
    load_train_state(saved)


def test_another_failure_keeps_its_name_and_leaves_nothing(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="broken"):
        save_train_state(saved.with_name("step-6"), STATE, FILES)
    assert names(saved.parent) == {"step-5"}


def test_what_a_killed_process_left_is_swept(saved: Path) -> None:
    left = saved.with_name(".step-6.tmp")
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    save_train_state(saved.with_name("step-9"), STATE, FILES)
    assert names(saved.parent) == {"step-5", "step-9"}


def test_a_removed_checkpoint_is_gone_at_once(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its files are: a kill half-way leaves nothing that says COMPLETE, and the next save sweeps it."""
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: None)
        remove_train_state(saved)
    assert names(saved.parent) == {".step-5.tmp"}
    save_train_state(saved.with_name("step-6"), STATE, FILES)
    assert names(saved.parent) == {"step-6"}
    remove_train_state(saved.with_name("step-6"))
    assert names(saved.parent) == set()
