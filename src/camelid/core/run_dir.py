"""What a run leaves on disk. This file alone knows the names.

<time>-<stage>-<preset>-<config digest>/
    run.json        status, argv, versions, parents        (schema run/1)
    config.json     what was configured
    metrics.jsonl   one line per step
    report.html
    evals/          what was measured of the model, as JSON
    notes.json      what a stage found out: scores before and after, examples dropped, digests
    adapter/        what low-rank training learnt, in PEFT's form
    targets/        what a teacher said while it learnt
    students/       runs of those that learnt from it meanwhile
    herd.json       of a whole herd: which stages are done            (schema herd/1)
    stages/         and their runs
    checkpoints/step-N/   resumable state; exists once it holds COMPLETE
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from camelid.core.config import Config
from camelid.core.errors import CheckpointError, ConfigError
from camelid.core.files import write_text_atomically

__all__ = ["COMPLETE", "RunDir", "RunStatus"]

RunStatus = Literal["running", "finished", "interrupted", "failed"]
COMPLETE = "COMPLETE"
STEP_NAME = re.compile(r"step-(\d+)")
PACKAGES = ("camelid", "torch", "tokenizers", "pillow")


@dataclass(frozen=True)
class RunDir:
    """One run's folder."""

    path: Path

    @classmethod
    def create(
        cls,
        root: Path,
        stage: str,
        preset: str,
        config: Config,
        argv: Sequence[str] = (),
        parents: Sequence[str] = (),
    ) -> RunDir:
        """A new folder with run.json and config.json; runs of one second get numbers from 2 on."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = f"{stamp}-{stage}-{preset}-{config.digest[:8]}"
        root.mkdir(parents=True, exist_ok=True)
        run = cls(_make_new_folder(root, name))
        (run.path / "checkpoints").mkdir()
        write_text_atomically(run.config_path, config.to_json())
        run._write_status(
            {
                "schema": "run/1",
                "status": "running",
                "stage": stage,
                "preset": preset,
                "created": stamp,
                "argv": list(argv),
                "parents": list(parents),
                "git_revision": _git_revision(),
                "packages": {package: _version(package) for package in PACKAGES},
            }
        )
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """An existing run; CheckpointError if the folder is none."""
        run = cls(path)
        if not (path / "run.json").is_file():
            raise CheckpointError(f"{path} is not a run: it has no run.json")
        return run

    @classmethod
    def newest(cls, root: Path) -> RunDir | None:
        """The run that was started last among those with a complete checkpoint, or None."""
        runs = sorted(root.glob("*/run.json"), key=lambda file: file.parent.name, reverse=True)
        return next((run for file in runs if (run := cls(file.parent)).latest_checkpoint() is not None), None)

    @property
    def config_path(self) -> Path:
        """What the run was configured with."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object per step, in order."""
        return self.path / "metrics.jsonl"

    @property
    def report_path(self) -> Path:
        """The run as a page."""
        return self.path / "report.html"

    @property
    def evals_dir(self) -> Path:
        """What was measured of the model."""
        return self.path / "evals"

    @property
    def adapter_dir(self) -> Path:
        """What low-rank training learnt, apart from its base."""
        return self.path / "adapter"

    @property
    def targets_dir(self) -> Path:
        """What a teacher said about the batches it was about to learn."""
        return self.path / "targets"

    @property
    def students_dir(self) -> Path:
        """Where the runs of a teacher's students are."""
        return self.path / "students"

    @property
    def herd_path(self) -> Path:
        """How far a herd has come."""
        return self.path / "herd.json"

    @property
    def stages_dir(self) -> Path:
        """Where the runs of a herd's stages are."""
        return self.path / "stages"

    @property
    def reference_path(self) -> Path:
        """What a reference model thinks of the run's data, computed once."""
        return self.path / "reference.safetensors"

    def notes(self) -> dict[str, Any]:
        """What a stage found out about data and model, by name."""
        path = self.path / "notes.json"
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return values

    def note(self, **values: Any) -> None:
        """Adds to the notes, or replaces what has the same name."""
        text = json.dumps(_finite(self.notes() | values), indent=2, sort_keys=True, allow_nan=False)
        write_text_atomically(self.path / "notes.json", text + "\n")

    def check_config(self, config: Config) -> None:
        """ConfigError, with both digests, if the run was configured differently."""
        known = type(config).load(self.config_path)
        if known != config:
            raise ConfigError(
                f"{self.path} was configured differently: its digest is {known.digest[:8]}, not {config.digest[:8]}"
            )

    def checkpoint_dir(self, step: int) -> Path:
        """Where the state after `step` steps is, or will be."""
        return self.path / "checkpoints" / f"step-{step}"

    def checkpoint_steps(self) -> list[int]:
        """Steps with a complete checkpoint, ascending."""
        folders = (self.path / "checkpoints").glob("step-*")
        return sorted(
            int(match[1])
            for folder in folders
            if (match := STEP_NAME.fullmatch(folder.name)) and (folder / COMPLETE).is_file()
        )

    def latest_checkpoint(self) -> Path | None:
        """The complete checkpoint of the highest step, or None."""
        steps = self.checkpoint_steps()
        return self.checkpoint_dir(steps[-1]) if steps else None

    def status(self) -> dict[str, Any]:
        """The contents of run.json."""
        values: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        return values

    def set_status(self, status: RunStatus) -> None:
        """Says in run.json how the run stands."""
        self._write_status(self.status() | {"status": status})

    def _write_status(self, values: dict[str, Any]) -> None:
        write_text_atomically(self.path / "run.json", json.dumps(values, indent=2, sort_keys=True) + "\n")

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Adds one line to metrics.jsonl. It survives a killed process; a power cut may take the last ones.

        JSON has no numbers that are not finite: those of a step without a loss become null.
        """
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(values), allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl; a last line that a crash cut short is left out."""
        if not self.metrics_path.is_file():
            return []
        rows = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def truncate_metrics(self, last_step: int) -> None:
        """Forgets steps after `last_step`, which a resumed run will do again."""
        kept = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= last_step]
        write_text_atomically(self.metrics_path, "".join(kept))


def _make_new_folder(root: Path, name: str) -> Path:
    path, number = root / name, 1
    while True:
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
            path = root / f"{name}-{number}"


def _git_revision() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
