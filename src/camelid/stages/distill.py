"""Codistillation: students learn from a teacher during their own pretraining, a finished one or one that learns too.

Behind both stages are the same files (`data.TargetStore`) and the same objective. `distill` asks a finished
teacher, or reads what one left. `codistill` trains teacher and students in one job: for some steps the teacher
goes ahead and leaves targets from its own training forward, then each student follows through the same batches.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from camelid.checkpoint import load_model
from camelid.core import Config
from camelid.core.digest import sha256_of_file
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.data import TargetOrigin, TargetStore
from camelid.infer.locate import choose_model
from camelid.inputs import ChatFormat
from camelid.model import Llama4, Llama4Config
from camelid.stages.pretrain import PretrainConfig, Pretraining, tokenizer_path
from camelid.train import (
    Gap,
    LearnFromTeacher,
    LeaveTargets,
    Objective,
    Observer,
    SoftWeight,
    StoredTargets,
    TeacherOnTheFly,
    TrainConfig,
)
from camelid.train.precision import autocast_dtype

__all__ = ["CodistillConfig", "DistillConfig", "Student", "codistill", "distill", "student_runs"]

TOKENIZER = "tokenizer.model"
STAGE = "codistill"


@dataclass(frozen=True)
class DistillConfig(Config):
    """A student's whole pretraining, and who teaches it.

    `teacher` is the folder of a finished run, checkpoint or model. `targets` is a folder that its targets are kept
    in, so that another student, or the same again, need not ask; empty, they are made for each batch and forgotten.
    Without a `teacher` the folder is all there is, such as one that `codistill` left.
    """

    student: PretrainConfig
    teacher: str = ""
    targets: str = ""
    soft_weight: SoftWeight = field(default_factory=Gap)

    def __post_init__(self) -> None:
        if not self.teacher and not self.targets:
            raise ConfigError("distillation needs a teacher's folder, or one of targets that it left")


@dataclass(frozen=True)
class Student(Config):
    """One who learns beside a teacher: a model of any shape with the teacher's vocabulary, trained its own way."""

    preset: str
    model: Llama4Config
    train: TrainConfig
    soft_weight: SoftWeight = field(default_factory=Gap)


@dataclass(frozen=True)
class CodistillConfig(Config):
    """A teacher's whole pretraining, and students that go through the same batches `segment_steps` behind it."""

    teacher: PretrainConfig
    students: tuple[Student, ...]
    segment_steps: int = 500

    def __post_init__(self) -> None:
        if not self.students:
            raise ConfigError("codistillation needs at least one student")
        if self.segment_steps < 1:
            raise ConfigError(f"segment_steps must be at least 1, got {self.segment_steps}")
        names = [self.teacher.preset, *(student.preset for student in self.students)]
        if len(set(names)) < len(names):
            raise ConfigError(f"teacher and students need different names, got {names}")
        theirs = self.teacher.train
        for student in self.students:
            ours = student.train
            if (ours.steps, ours.micro_batches) != (theirs.steps, theirs.micro_batches):
                raise ConfigError(
                    f"{student.preset} makes {ours.steps} steps of {ours.micro_batches} batches, its teacher "
                    f"{theirs.steps} of {theirs.micro_batches}: they share the batches"
                )
        for train in (theirs, *(student.train for student in self.students)):
            if train.max_minutes:
                raise ConfigError(
                    f"max_minutes {train.max_minutes:g} would end one member before the others: only steps count here"
                )


def distill(
    config: DistillConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    observers: Sequence[Observer] = (),
) -> RunDir:
    """Pretrains a student under a finished teacher, or goes on with `resume`; returns the run's folder.

    ConfigError where the vocabularies differ, the folder of targets is another teacher's, or the resumed run was
    configured differently.
    """
    _check_resumed(config, resume)
    pretraining = Pretraining.prepare(config.student)
    source = _stored(config) if not config.teacher else _on_the_fly(config)
    model = pretraining.fresh_model()
    parents = [place for place in (config.teacher, config.targets) if place]
    run = resume or RunDir.create(run_root, "distill", config.student.preset, config, sys.argv, parents)
    pretraining.train(model, run, observers, LearnFromTeacher(source, config.soft_weight))
    return run


def codistill(
    config: CodistillConfig,
    *,
    run_root: Path = Path("runs"),
    resume: RunDir | None = None,
    observers: Callable[[str], Sequence[Observer]] = lambda member: (),
    on_start: Callable[[RunDir, Llama4, ChatFormat], None] = lambda *_: None,
) -> RunDir:
    """Trains a teacher and its students, or goes on with `resume`; returns the teacher's folder, theirs inside it.

    `observers` are made for each member by its preset. `on_start` is told every member's run, live model and chat
    format before the first step. Every member keeps checkpoints of its own, so a job that was
    killed anywhere goes on with whoever is behind. ConfigError where vocabularies differ, or the resumed job was
    configured differently.
    """
    _check_resumed(config, resume)
    for student in config.students:
        _check_sizes(config.teacher.preset, config.teacher.model, student.preset, student.model)
    teacher = Pretraining.prepare(config.teacher)
    job = resume or RunDir.create(run_root, STAGE, config.teacher.preset, config, sys.argv)
    store = TargetStore.open(
        job.targets_dir,
        TargetOrigin(
            vocab_size=config.teacher.model.text.vocab_size,
            teacher=f"in training, configuration {config.digest}",
            tokenizer=sha256_of_file(tokenizer_path(config.teacher)),
            seed=config.teacher.seed,
        ),
    )
    members: list[tuple[Pretraining, RunDir, Llama4, Objective]] = [
        (teacher, job, teacher.fresh_model(), LeaveTargets(store))
    ]
    for student in config.students:
        own = config.teacher.replace(preset=student.preset, model=student.model, train=student.train)
        pretraining = replace(teacher, config=own)  # the same data, opened once
        learning = LearnFromTeacher(StoredTargets(store), student.soft_weight)
        run = student_runs(job).get(student.preset) or RunDir.create(
            job.students_dir, STAGE, student.preset, student, sys.argv, [str(job.path)]
        )
        members.append((pretraining, run, pretraining.fresh_model(), learning))
    for pretraining, run, model, _ in members:
        on_start(run, model, pretraining.chat_format)
    steps = config.teacher.train.steps
    for until in [*range(config.segment_steps, steps, config.segment_steps), steps]:
        for pretraining, run, model, objective in members:
            if until <= max(run.checkpoint_steps(), default=0):
                continue
            preset = pretraining.config.preset
            is_stopped = pretraining.train(model, run, observers(preset), objective, until)
            if is_stopped:
                job.set_status("interrupted")
                return job
            job.set_status("running")
    job.set_status("finished")
    return job


def student_runs(job: RunDir) -> dict[str, RunDir]:
    """The runs of a job's students by preset."""
    runs = [RunDir.open(file.parent) for file in sorted(job.students_dir.glob("*/run.json"))]
    return {run.status()["preset"]: run for run in runs}


def _check_resumed(config: DistillConfig | CodistillConfig, resume: RunDir | None) -> None:
    if resume is not None:
        resume.check_config(config)


def _check_sizes(teacher: str, theirs: Llama4Config, student: str, ours: Llama4Config) -> None:
    """ConfigError where the two could not read the same batch."""
    if theirs.text.vocab_size != ours.text.vocab_size:
        raise ConfigError(
            f"the teacher {teacher} has a vocabulary of {theirs.text.vocab_size:,}, {student} one of "
            f"{ours.text.vocab_size:,}: ids would mean different tokens"
        )
    if (seen := _picture_shape(theirs)) != (wanted := _picture_shape(ours)):
        raise ConfigError(
            f"the teacher {teacher} reads {seen}, {student} {wanted}: they cannot share pictures"
        )


def _picture_shape(config: Llama4Config) -> str:
    vision = config.vision
    if vision is None:
        return "no pictures"
    return f"{vision.max_tiles} tiles of {vision.image_size} pixels and {vision.patch_tokens_per_tile} patch tokens"


def _on_the_fly(config: DistillConfig) -> TeacherOnTheFly:
    """A finished teacher, loaded; what it says is kept where the configuration says so."""
    student, folder = config.student, choose_model(config.teacher)
    model = load_model(folder)
    _check_sizes(str(folder), model.config, student.preset, student.model)
    tokenizer = _same_tokenizer(folder / TOKENIZER, student)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    store = None
    if config.targets:
        origin = TargetOrigin(
            model.config.text.vocab_size, _digest_of_weights(model), tokenizer, student.seed
        )
        store = TargetStore.open(Path(config.targets), origin)
        store.sweep()
    return TeacherOnTheFly(model, student.seed, store, autocast_dtype(student.train.precision, device))


def _stored(config: DistillConfig) -> StoredTargets:
    """Targets that some teacher left; their vocabulary must be the student's."""
    student, store = config.student, TargetStore.open(Path(config.targets))
    vocab_size, tokenizer = student.model.text.vocab_size, sha256_of_file(tokenizer_path(student))
    found = store.origin
    if (found.vocab_size, found.tokenizer) != (vocab_size, tokenizer):
        raise ConfigError(
            f"{config.targets} has a vocabulary of {found.vocab_size:,} (tokenizer {found.tokenizer[:12]}…), "
            f"{student.preset} one of {vocab_size:,} (tokenizer {tokenizer[:12]}…)"
        )
    return StoredTargets(store)


def _same_tokenizer(theirs: Path, student: PretrainConfig) -> str:
    """Its digest; ConfigError where the teacher has none or another than the student."""
    if not theirs.is_file():
        raise ConfigError(f"{theirs.parent} has no {TOKENIZER}: no telling whether its ids are the student's")
    found, wanted = sha256_of_file(theirs), sha256_of_file(tokenizer_path(student))
    if found != wanted:
        raise ConfigError(f"{theirs} has sha256 {found[:12]}…, the student's tokenizer {wanted[:12]}…")
    return found


def _digest_of_weights(model: Llama4) -> str:
    """sha256 over the names, types and bytes of all tensors: the same whatever layout they were read from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
