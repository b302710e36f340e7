"""What is known of a herd: who descends from whom, what it cost, what teaching gave, what each model can do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from camelid.core import MODALITIES
from camelid.core.run_dir import RunDir
from camelid.eval import GalleryItem
from camelid.herd.config import HerdConfig
from camelid.herd.evaluation import Scorecard, gallery_of
from camelid.herd.stage import PRETRAINING, Stage, plan
from camelid.herd.state import HerdState
from camelid.model import Llama4Config
from camelid.model.flops import training_flops

__all__ = ["Cost", "Descendant", "Family", "Gain"]

END_SHARE = 0.1  # of the steps, over which numbers of the end are averaged


@dataclass(frozen=True)
class Descendant:
    """A model that a stage left, or will leave: then without a digest."""

    stage: str
    member: str
    parent: str
    digest: str
    run: RunDir | None


@dataclass(frozen=True)
class Cost:
    """What a member's part of a stage took. `flops` as `training_flops`: no rollouts, no targets, no evaluations."""

    stage: str
    member: str
    num_steps: int
    num_tokens: int
    flops: float
    seconds: float


@dataclass(frozen=True)
class Gain:
    """How teaching ended for one modality of a student: means over the last tenth of the steps, in nats per token."""

    member: str
    modality: str
    soft_weight: float
    kl: float
    loss: float
    teacher_loss: float


@dataclass(frozen=True)
class Family:
    """A herd's folder, read; it may be half way."""

    folder: RunDir
    config: HerdConfig
    state: HerdState

    @classmethod
    def of(cls, folder: RunDir) -> Family:
        """ConfigError where configuration and herd.json are not of one herd."""
        config = HerdConfig.load(folder.config_path)
        return cls(folder, config, HerdState.of(folder, config))

    @property
    def teacher(self) -> str:
        """The teacher's name."""
        return self.config.pretraining.teacher.preset

    @property
    def members(self) -> dict[str, Llama4Config]:
        """Everybody by name, the teacher first."""
        students = self.config.pretraining.students
        return {self.teacher: self.config.pretraining.teacher.model} | {
            student.preset: student.model for student in students
        }

    def run_of(self, stage: str, member: str) -> RunDir | None:
        """A member's run in a stage that has come to a stop at least once."""
        place = self.state[stage].runs.get(member)
        return None if place is None else RunDir(self.folder.path / place)

    def descendants(self) -> list[Descendant]:
        """All models, parents before children; the students' parent is their teacher."""
        found = []
        for stage in plan(self.config):
            if stage.kind == "eval":
                continue
            for member in self._members_of(stage):
                parent = self.teacher if stage.name == PRETRAINING and member != self.teacher else stage.base
                digest = self.state[stage.name].models.get(member, "")
                run = self.run_of(stage.name, member)
                found.append(Descendant(stage.name, member, parent, digest, run))
        return found

    def costs(self) -> list[Cost]:
        """Of every member's part of every stage that learns and has begun."""
        found = []
        for stage in plan(self.config):
            for member in self._members_of(stage):
                run = self.run_of(stage.name, member)
                rows = [] if run is None or stage.kind == "eval" else run.metrics()
                if rows:
                    num_tokens, num_tiles = (
                        sum(row[name] for row in rows) for name in ("num_tokens", "num_tiles")
                    )
                    found.append(
                        Cost(
                            stage.name,
                            member,
                            rows[-1]["step"],
                            num_tokens,
                            training_flops(self.members[member], num_tokens, num_tiles),
                            sum(row["seconds"] for row in rows),
                        )
                    )
        return found

    def steps(self) -> dict[str, list[dict[str, Any]]]:
        """Steps of pretraining by member."""
        runs = {member: self.run_of(PRETRAINING, member) for member in self.members}
        return {member: run.metrics() for member, run in runs.items() if run is not None}

    def gains(self) -> list[Gain]:
        """What each student had of its teacher at the end."""
        return [gain for member, rows in self.steps().items() for gain in _gains(member, rows)]

    def scorecards(self) -> dict[str, Scorecard]:
        """By the name of the evaluation's stage, without its "/eval"."""
        return {name: Scorecard.of(run) for name, run in self._evaluations().items()}

    def galleries(self) -> dict[str, list[GalleryItem]]:
        """What each was asked before everybody's eyes, by the same names: the same questions in the same order."""
        return {name: gallery_of(run) for name, run in self._evaluations().items()}

    def notes(self) -> dict[str, Mapping[str, Any]]:
        """What stages found out about their models before and after, by stage."""
        runs = {stage.name: self.run_of(stage.name, stage.member) for stage in plan(self.config)}
        return {name: notes for name, run in runs.items() if run is not None and (notes := run.notes())}

    def _evaluations(self) -> dict[str, RunDir]:
        return {
            stage.name.removesuffix("/eval"): run
            for stage in plan(self.config)
            if stage.kind == "eval"
            and self.state[stage.name].status == "finished"
            and (run := self.run_of(stage.name, stage.member)) is not None
        }

    def _members_of(self, stage: Stage) -> Sequence[str]:
        return list(self.members) if stage.name == PRETRAINING else [stage.member]


def _gains(member: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Gain]:
    end = [row for row in rows[-max(1, math.ceil(END_SHARE * len(rows))) :] if row.get("distill")]
    for modality in MODALITIES:
        having = [
            row for row in end if modality in row["distill"]["kl"] and modality in row["loss_by_modality"]
        ]
        if not having:
            continue
        taught = {
            name: [row["distill"][name][modality] for row in having]
            for name in ("soft_weight", "kl", "teacher_loss")
        }
        losses = [row["loss_by_modality"][modality] for row in having]
        yield Gain(
            member,
            modality,
            _mean(taught["soft_weight"]),
            _mean(taught["kl"]),
            _mean(losses),
            _mean(taught["teacher_loss"]),
        )


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
