"""Learning from a teacher, finished or learning too: same files, same bits, and refusals before anything begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from camelid.checkpoint import load_model
from camelid.core import Config
from camelid.core.errors import ConfigError, DataError
from camelid.core.run_dir import RunDir
from camelid.data import TargetStore
from camelid.stages.distill import CodistillConfig, DistillConfig, codistill, distill, student_runs
from camelid.stages.pretrain import PretrainConfig, pretrain, tokenizer_path
from camelid.train import Constant, Gap
from stages import tiny_distill
from stages.tiny_distill import STEPS, TEACHER, codistill_config, teacher_config
from stages.tiny_pretrain import MODEL, only_run

TAUGHT = 16
STATE = ("model.safetensors", "optim.safetensors", "rng.safetensors")


def student_config(steps: int = STEPS, **data: Any) -> PretrainConfig:
    return teacher_config(steps, **data).replace(preset="tiny", model=MODEL)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Twenty steps ahead."""
    return pretrain(teacher_config(20), run_root=tmp_path_factory.mktemp("teacher"))


class Distilled(NamedTuple):
    """A student of that teacher, and what the teacher said."""

    run: RunDir
    config: DistillConfig


@pytest.fixture(scope="module")
def distilled(teacher: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    root = tmp_path_factory.mktemp("student")
    config = DistillConfig(student_config(TAUGHT), str(teacher.path), str(root / "targets"), Gap(memory=0.5))
    return Distilled(distill(config, run_root=root / "runs"), config)


def same_but_for_the_clock(ours: RunDir, theirs: RunDir) -> None:
    for mine, other in zip(ours.metrics(), theirs.metrics(), strict=True):
        assert {**mine, "seconds": 0} == {**other, "seconds": 0}
    last = [run.latest_checkpoint() for run in (ours, theirs)]
    assert last[0] is not None and last[1] is not None
    for name in STATE:
        assert (last[0] / name).read_bytes() == (last[1] / name).read_bytes(), name


def test_a_student_learns_pictures_and_text_from_a_teacher(distilled: Distilled, teacher: RunDir) -> None:
    run = distilled.run
    rows = run.metrics()
    assert (run.status()["status"], run.status()["stage"]) == ("finished", "distill")
    assert run.status()["parents"] == [str(teacher.path), distilled.config.targets]
    assert {modality for row in rows for modality in row["loss_by_modality"]} >= {"text", "image"}
    first, last = rows[0], rows[-1]
    assert last["loss"] < 0.8 * first["loss"], "the hard loss, with weights that were mostly the teacher's"
    for row in rows:
        assert row["distill"].keys() == {"soft_weight", "teacher_loss", "kl"}
        assert row["distill"]["kl"].keys() == row["loss_by_modality"].keys()
    assert set(first["distill"]["soft_weight"].values()) == {0.0}
    assert 0.5 < rows[9]["distill"]["soft_weight"]["image"] <= 0.9
    assert last["distill"]["kl"]["image"] < 0.5 * first["distill"]["kl"]["image"]
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None and load_model(checkpoint).config == MODEL


def test_what_was_kept_is_as_good_as_the_teacher(distilled: Distilled, tmp_path: Path) -> None:
    """To the last bit."""
    alone = distilled.config.replace(teacher="")
    same_but_for_the_clock(distill(alone, run_root=tmp_path), distilled.run)
    store = TargetStore.open(Path(distilled.config.targets))
    assert len(store) == TAUGHT
    assert store.bytes_per_token < 60, "of which a dozen are headers: these shards hold sixty tokens"


def test_the_teacher_alone_is_as_good_as_what_was_kept(distilled: Distilled, tmp_path: Path) -> None:
    few = distilled.config.replace(student=student_config(3), targets="")
    run = distill(few, run_root=tmp_path)
    losses = [[row["loss"] for row in taught.metrics()[:2]] for taught in (run, distilled.run)]
    assert losses[0] == losses[1]
    assert {path.name for path in tmp_path.iterdir()} == {run.path.name}


@pytest.mark.timeout(300)
def test_killed_as_teacher_and_as_student_and_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """The second kill meets a student whose records the first teacher's process wrote."""
    config = codistill_config()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for victim, step in (("tiny-behemoth", 4), ("tiny-maverick", 5)):
        command = [sys.executable, str(tiny_distill.__file__), str(tmp_path / "killed"), victim, str(step)]
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    killed = only_run(tmp_path / "killed")
    assert killed is not None and killed.status()["status"] == "running"
    codistill(config, resume=killed)
    met: list[str] = []
    whole = codistill(
        config, run_root=tmp_path / "whole", on_start=lambda run, *_: met.append(run.status()["preset"])
    )
    assert met == ["tiny-behemoth", "tiny-scout", "tiny-maverick"]

    for job in (killed, whole):
        assert job.status()["status"] == "finished"
        assert student_runs(job).keys() == {"tiny-scout", "tiny-maverick"}
    same_but_for_the_clock(killed, whole)
    for preset, run in student_runs(killed).items():
        same_but_for_the_clock(run, student_runs(whole)[preset])
        assert [row["step"] for row in run.metrics()] == list(range(1, STEPS + 1))
    stores = [TargetStore.open(job.targets_dir) for job in (killed, whole)]
    assert len(stores[0]) == len(stores[1]) == STEPS
    assert {path.name for path in killed.targets_dir.iterdir()} == {
        path.name for path in whole.targets_dir.iterdir()
    }

    # The teacher was not disturbed by leaving targets, and what it left serves whoever comes later.
    plain = pretrain(config.teacher, run_root=tmp_path / "plain")
    assert [row["loss"] for row in plain.metrics()] == [row["loss"] for row in whole.metrics()]
    later = DistillConfig(
        student_config().replace(train=config.students[0].train), "", str(whole.targets_dir)
    )
    late = distill(later.replace(soft_weight=config.students[0].soft_weight), run_root=tmp_path / "late")
    same_but_for_the_clock(late, student_runs(whole)["tiny-scout"])


def test_targets_of_other_batches_do_not_serve(distilled: Distilled, tmp_path: Path) -> None:
    other = distilled.config.replace(teacher="", student=student_config(2, batch_tokens=255))
    with pytest.raises(DataError, match=r"no targets for batch 0 .* among 16 records"):
        distill(other, run_root=tmp_path)


def with_vocabulary(vocab_size: int) -> PretrainConfig:
    return student_config().replace(model=MODEL.replace(text=MODEL.text.replace(vocab_size=vocab_size)))


def test_other_vocabularies_are_refused_with_the_numbers(
    teacher: RunDir, distilled: Distilled, tmp_path: Path
) -> None:
    *lines, one, other = tokenizer_path(student_config()).read_text().splitlines()
    swapped = [f"{a.split()[0]} {b.split()[1]}" for a, b in ((other, one), (one, other))]
    (tmp_path / "swapped.model").write_text("\n".join([*lines, *swapped]))
    other_words = student_config().replace(tokenizer=str(tmp_path / "swapped.model"))
    more = with_vocabulary(5121)
    for config, words in (
        (DistillConfig(more, str(teacher.path)), "vocabulary of 5,120, tiny one of 5,121"),
        (DistillConfig(more, "", distilled.config.targets), r"vocabulary of 5,120 .* tiny one of 5,121"),
        (DistillConfig(other_words, str(teacher.path)), r"sha256 [0-9a-f]{12}…, the student's tokenizer"),
    ):
        with pytest.raises((ConfigError, DataError), match=words):
            distill(config, run_root=tmp_path / "runs")
    student = codistill_config().students[0]
    together = codistill_config(students=(student.replace(model=more.model),))
    with pytest.raises(ConfigError, match="tiny-behemoth has a vocabulary of 5,120, tiny-scout one of 5,121"):
        codistill(together, run_root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_pictures_cut_otherwise_are_refused(teacher: RunDir, tmp_path: Path) -> None:
    assert MODEL.vision is not None and TEACHER.vision is not None
    small = MODEL.replace(vision=MODEL.vision.replace(image_size=32))
    with pytest.raises(ConfigError, match=r"4 tiles of 48 pixels .* tiny 4 tiles of 32 pixels"):
        distill(DistillConfig(student_config().replace(model=small), str(teacher.path)), run_root=tmp_path)


def test_another_teachers_targets_are_refused(distilled: Distilled, tmp_path: Path) -> None:
    young = pretrain(teacher_config(1), run_root=tmp_path)
    with pytest.raises(
        ConfigError, match=r"another teacher's targets: teacher [0-9a-f]{64}, not [0-9a-f]{64}"
    ):
        distill(distilled.config.replace(teacher=str(young.path)), run_root=tmp_path)


def test_a_run_goes_on_only_as_it_began(distilled: Distilled) -> None:
    with pytest.raises(ConfigError, match="was configured differently"):
        distill(distilled.config.replace(soft_weight=Constant()), resume=distilled.run)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"students": ()}, "at least one student"),
        ({"segment_steps": 0}, "segment_steps must be at least 1, got 0"),
        ({"students": codistill_config().students[:1] * 2}, "different names"),
        (
            {"students": codistill_config(5).students},
            "tiny-scout makes 5 steps of 1 batches, its teacher 6 of 1",
        ),
        (
            {"teacher": teacher_config().replace(train=teacher_config().train.replace(max_minutes=2))},
            "max_minutes 2",
        ),
    ],
)
def test_jobs_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        codistill_config(**changes)


@pytest.mark.parametrize("soft_weight", [Gap(), Constant(0.5)])
def test_configurations_survive_json(soft_weight: Any) -> None:
    with pytest.raises(ConfigError, match="needs a teacher's folder"):
        DistillConfig(student_config())
    config: Config = DistillConfig(student_config(), "teacher", soft_weight=soft_weight)
    assert DistillConfig.from_json(config.to_json()) == config
    assert CodistillConfig.from_json(codistill_config().to_json()) == codistill_config()
