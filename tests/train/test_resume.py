"""kill -9 in the middle, resume: the same run, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from camelid.core.run_dir import RunDir
from camelid.train import train
from train import toy_training
from train.toy_training import FILES, new_run, open_loader, toy_config, toy_model


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the process that is killed: sums depend on how they are split."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_killed_run_repeats_itself_exactly(tmp_path: Path) -> None:
    """Killed after step 5, whose metrics are out, with the last checkpoint at step 3."""
    command = [sys.executable, str(toy_training.__file__), str(tmp_path / "killed"), "5"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    killed = RunDir.newest(tmp_path / "killed")
    assert killed is not None
    assert killed.status()["status"] == "running"
    assert killed.checkpoint_steps() == [3]
    assert [row["step"] for row in killed.metrics()] == [1, 2, 3, 4, 5]
    # What else a kill can leave: half a line, half a checkpoint.
    with killed.metrics_path.open("a") as file:
        file.write('{"step": 6, "lo')
    half_written = killed.path / "checkpoints" / ".step-6.tmp"
    half_written.mkdir()

    config = toy_config(steps=8)
    train(toy_model(seed=1), open_loader, config, killed, model_files=FILES)
    whole, model = new_run(tmp_path, config), toy_model()
    torch.manual_seed(0)
    train(model, open_loader, config, whole, model_files=FILES)

    def curve(run: RunDir) -> list[dict[str, object]]:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in run.metrics()]

    assert curve(killed) == curve(whole)
    for name in ("model.safetensors", "optim.safetensors", "rng.safetensors"):
        ours, theirs = (run.checkpoint_dir(8) / name for run in (killed, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert not half_written.exists()
