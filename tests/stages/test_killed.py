"""kill -9 again and again at the worst moments: the run ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from camelid.checkpoint.train_state import load_train_state
from camelid.core.run_dir import RunDir
from camelid.stages.pretrain import pretrain
from stages import tiny_pretrain
from stages.tiny_pretrain import MOMENTS, STEPS, only_run, tiny_pretrain_config

STATE = ("model.safetensors", "optim.safetensors", "rng.safetensors")


def kill(root: Path, moment: str) -> RunDir:
    """Goes on until that moment in a process of its own, which does not survive it."""
    command = [sys.executable, str(tiny_pretrain.__file__), str(root), moment]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    run = only_run(root)
    assert run is not None
    assert run.status()["status"] == "running"
    return run


def left_in_checkpoints(run: RunDir) -> set[str]:
    return {path.name for path in (run.path / "checkpoints").iterdir()}


def steps(run: RunDir) -> list[int]:
    return [row["step"] for row in run.metrics()]


def without_clock(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "seconds"}


@pytest.mark.timeout(300)
def test_killed_three_times_and_the_same_to_the_last_bit(tmp_path: Path) -> None:
    first, second, third = MOMENTS
    killed = kill(tmp_path / "killed", first)
    assert steps(killed) == [1, 2, 3, 4, 5]
    assert left_in_checkpoints(killed) == {"step-4"}

    kill(tmp_path / "killed", second)
    assert steps(killed) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert left_in_checkpoints(killed) == {"step-4", ".step-8.tmp"}
    assert killed.checkpoint_steps() == [4]

    kill(tmp_path / "killed", third)
    assert left_in_checkpoints(killed) == {".step-4.tmp", "step-8"}
    assert killed.checkpoint_steps() == [8], "half a checkpoint is none"

    pretrain(tiny_pretrain_config(), resume=killed)
    whole = pretrain(tiny_pretrain_config(), run_root=tmp_path / "whole")
    for run in (killed, whole):
        assert run.status()["status"] == "finished"
        assert left_in_checkpoints(run) == {f"step-{STEPS}"}
    for ours, theirs in zip(killed.metrics(), whole.metrics(), strict=True):
        assert without_clock(ours) == without_clock(theirs)
    ours, theirs = (run.checkpoint_dir(STEPS) for run in (killed, whole))
    for name in STATE:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert without_clock(dict(load_train_state(ours).loader)) == without_clock(
        dict(load_train_state(theirs).loader)
    )
