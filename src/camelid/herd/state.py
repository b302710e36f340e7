"""herd.json: which stages are done, where their runs are, and which models they left, by digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from camelid.core import Config
from camelid.core.errors import CheckpointError, ConfigError
from camelid.core.files import write_text_atomically
from camelid.core.run_dir import RunDir
from camelid.herd.config import HerdConfig
from camelid.herd.stage import plan

__all__ = ["HerdState", "StageRecord"]

Status = Literal["waiting", "running", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class StageRecord(Config):
    """One stage. `runs` are folders below the herd's, `models` digests of the weights at the end, both by member.

    `seconds` leaves out what a killed process did not live to write.
    """

    name: str
    kind: str
    member: str
    base: str
    status: Status = "waiting"
    seconds: float = 0.0
    runs: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HerdState(Config):
    """All stages in the order of the road."""

    config_digest: str
    stages: tuple[StageRecord, ...]
    schema: Literal["herd/1"] = "herd/1"

    @classmethod
    def new(cls, config: HerdConfig) -> HerdState:
        """Nothing done yet."""
        records = (StageRecord(stage.name, stage.kind, stage.member, stage.base) for stage in plan(config))
        return cls(config.digest, tuple(records))

    @classmethod
    def of(cls, folder: RunDir, config: HerdConfig) -> HerdState:
        """As far as the folder's herd has come; ConfigError, with both digests, if that is another configuration's."""
        path = folder.herd_path
        if not path.is_file():
            return cls.new(config)
        state = cls.load(path)
        if state.config_digest != config.digest:
            raise ConfigError(
                f"{path} is of the configuration {state.config_digest[:12]}…, not of {config.digest[:12]}…: a herd "
                "goes on as it was configured"
            )
        return state

    def write(self, folder: RunDir) -> None:
        """Whole, or not at all."""
        write_text_atomically(folder.herd_path, self.to_json() + "\n")

    def __getitem__(self, name: str) -> StageRecord:
        return next(record for record in self.stages if record.name == name)

    def changed(self, name: str, **changes: object) -> HerdState:
        """With another record of one stage."""
        records = (one.replace(**changes) if one.name == name else one for one in self.stages)
        return self.replace(stages=tuple(records))

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(record.status == "finished" for record in self.stages)

    def model_dir(self, folder: RunDir, stage: str, member: str) -> Path:
        """The model that a finished stage left; CheckpointError where it is gone."""
        run = RunDir(folder.path / self[stage].runs[member])
        found = run.latest_checkpoint()
        if found is None:
            raise CheckpointError(
                f"{run.path} has no finished checkpoint any more: {stage} left its model there"
            )
        return found.resolve()
