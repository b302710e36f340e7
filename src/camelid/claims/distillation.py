"""Claim: students that learn from a teacher's whole distribution beat the same students from scratch."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from camelid.checkpoint import load_model
from camelid.claims.claim import Claim, Evidence, Form, Measurement, OnProgress, Verdict
from camelid.claims.figure import draw_bars
from camelid.claims.held_out_losses import answer_inputs, calibration_error, mean_nats, prose_inputs
from camelid.core import Config
from camelid.core.run_dir import RunDir
from camelid.data import NamingConfig, StarterPack, StarterWeights
from camelid.data.questions.held_out import naming_held_out_style
from camelid.model import Llama4Config, preset
from camelid.recipes.nano import GENTLE
from camelid.stages.distill import DistillConfig, distill
from camelid.stages.pretrain import DataConfig, PretrainConfig, chat_format_for, pretrain
from camelid.train import OptimizerConfig, StepMetrics, TrainConfig, WarmupStableDecay

__all__ = ["DISTILLATION", "StudentArm"]

STUDENTS = ("nano-scout", "nano-maverick")
TEACHER_SEED = 1000
MARGIN, SLOWDOWN = 0.03, 1.10
WINDOW = 20  # steps over which training loss is smoothed
NUM_TIMED = 40  # steps


@dataclass(frozen=True)
class StudentArm(Config):
    """One student under one way to learn. The teacher, the same for all, is trained once beside the arms."""

    student: Literal["nano-scout", "nano-maverick"]
    is_distilled: bool
    steps: int
    teacher_steps: int
    batch_tokens: int
    concept_share: float
    num_documents: int
    width: int = 0  # of a smaller model for the smoke form; 0: the preset's


def _arms(form: Form) -> dict[str, StudentArm]:
    full = StudentArm("nano-scout", False, 300, 1200, 4096, 0.125, 200)
    arm = (
        full
        if form == "full"
        else full.replace(steps=3, teacher_steps=2, batch_tokens=256, num_documents=3, width=48)
    )
    return {
        f"{student}, {'distilled' if is_distilled else 'scratch'}": arm.replace(
            student=student, is_distilled=is_distilled
        )
        for student in STUDENTS
        for is_distilled in (False, True)
    }


def _pretraining(arm: StudentArm, name: str, steps: int, seed: int) -> PretrainConfig:
    return PretrainConfig(
        preset=name,
        model=_model(name, arm.width),
        train=TrainConfig(
            steps,
            optimizer=OptimizerConfig(lr=3e-3),
            schedule=WarmupStableDecay(warmup=0.02, decay=0.5),
            checkpoint_every=200,
            keep_checkpoints=1,
        ),
        data=DataConfig(
            starter=StarterWeights(0.5, 0, 0, 0, 0, prose=0.4, glosses=0.05, words=0.05),
            concept_share=arm.concept_share,
            augment=GENTLE,
            naming=NamingConfig(english=1.0, documents=0.0, text_first=0.0, one_turn=1.0),
            batch_tokens=arm.batch_tokens,
            max_document_tokens=min(512, arm.batch_tokens),
            averaging="token",
        ),
        seed=seed,
    )


def _model(name: str, width: int) -> Llama4Config:
    model = preset(name)
    if not width:
        return model
    assert model.vision is not None
    text = model.text.replace(hidden_size=width, num_local_experts=4)
    return model.replace(text=text, vision=model.vision.replace(hidden_size=48, num_hidden_layers=1))


def _measure(arm: StudentArm, seed: int, folder: Path, on_progress: OnProgress) -> Measurement:
    student = _pretraining(arm, arm.student, arm.steps, seed)
    if arm.is_distilled:
        teacher = _teacher(arm, folder.parent, on_progress)
        targets = folder.parent / f"targets-seed{seed}-{teacher.digest_of_config}"
        config = DistillConfig(student, str(teacher.checkpoint), str(targets))
        run = _finish(folder / "run", config, on_progress)
        # How long a step takes is asked with targets at hand, as they are for every student after the first.
        short = student.replace(train=student.train.replace(steps=min(arm.steps, NUM_TIMED)))
        seconds = _median_seconds(
            _finish(folder / "timed", DistillConfig(short, "", str(targets)), on_progress)
        )
    else:
        run = _finish(folder / "run", student, on_progress)
        seconds = _median_seconds(run)
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    on_progress(0.95, "judging")
    model, chat_format = load_model(checkpoint), chat_format_for(student)
    pack = StarterPack.open(concept_share=arm.concept_share)
    prose = prose_inputs(chat_format, pack, arm.num_documents)
    answers = answer_inputs(chat_format, naming_held_out_style(pack, arm.num_documents))
    numbers = {
        "hard nats": mean_nats(model, prose),
        "answer nats": mean_nats(model, answers),
        "ECE": calibration_error(model, prose),
        "step seconds": seconds,
    }
    return Measurement("", seed, "", numbers, {"training loss": _curve(run)})


@dataclass(frozen=True)
class _Teacher:
    checkpoint: Path
    digest_of_config: str


def _teacher(arm: StudentArm, root: Path, on_progress: OnProgress) -> _Teacher:
    """Trained at the first need; every student of every seed has the same."""
    config = _pretraining(arm, "nano-behemoth", arm.teacher_steps, TEACHER_SEED)
    run = _finish(root / f"teacher-{config.digest[:8]}", config, on_progress)
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    return _Teacher(checkpoint, config.digest[:8])


def _finish(root: Path, config: PretrainConfig | DistillConfig, on_progress: OnProgress) -> RunDir:
    """A stage from its last checkpoint on, if it is not finished; KeyboardInterrupt when it was told to stop."""
    run = RunDir.newest(root)
    if run is not None and run.status()["status"] == "finished":
        return run
    name = config.preset if isinstance(config, PretrainConfig) else f"{config.student.preset}, distilled"

    def show(metrics: StepMetrics) -> None:
        on_progress(0.9 * metrics.progress, f"{name}, step {metrics.step}, loss {metrics.loss:.3f}")

    if isinstance(config, PretrainConfig):
        run = pretrain(config, run_root=root, resume=run, observers=[show])
    else:
        run = distill(config, run_root=root, resume=run, observers=[show])
    if run.status()["status"] != "finished":
        raise KeyboardInterrupt
    return run


def _median_seconds(run: RunDir) -> float:
    """Of a step's own time, the first ones left out while caches fill."""
    seconds = [float(row["seconds"]) for row in run.metrics()]
    return statistics.median(seconds[min(5, len(seconds) - 1) :])


def _curve(run: RunDir) -> tuple[tuple[float, float], ...]:
    """Training loss on hard labels over tokens, means of neighbouring steps."""
    points, tokens, window = [], 0, list[float]()
    for row in run.metrics():
        tokens += row["num_tokens"]
        window.append(row["loss"])
        if len(window) == WINDOW:
            points.append((float(tokens), statistics.fmean(window)))
            window = []
    return tuple(points or [(float(tokens), statistics.fmean(window))])


def _tokens_ratio(evidence: Evidence, student: str, place: int) -> float:
    """The part of its tokens after which the distilled student is where the other ends, in training loss; else 1."""
    scratch, distilled = (
        next(
            m.curves["training loss"]
            for m in evidence.measurements
            if m.arm == f"{student}, {way}" and m.seed == evidence.seeds[place]
        )
        for way in ("scratch", "distilled")
    )
    goal = min(loss for _, loss in scratch)
    reached = next((tokens for tokens, loss in distilled if loss <= goal), distilled[-1][0])
    return reached / scratch[-1][0]


def _judge(evidence: Evidence) -> Verdict:
    numbers, sentences = dict[str, float](), list[str]()
    for student in STUDENTS:
        scratch, distilled = (f"{student}, {way}" for way in ("scratch", "distilled"))
        gains = [
            a - b
            for a, b in zip(
                evidence.of(scratch, "hard nats"), evidence.of(distilled, "hard nats"), strict=True
            )
        ]
        slower = statistics.median(evidence.of(distilled, "step seconds")) / statistics.median(
            evidence.of(scratch, "step seconds")
        )
        calibration = [statistics.fmean(evidence.of(arm, "ECE")) for arm in (scratch, distilled)]
        ratio = statistics.fmean(_tokens_ratio(evidence, student, n) for n in range(len(evidence.seeds)))
        numbers |= {f"{student}, least gain": min(gains), f"{student}, step time": slower}
        sentences.append(
            f"{student}: {' / '.join(f'{gain:+.3f}' for gain in gains)} nats better, ECE {calibration[0]:.3f} to "
            f"{calibration[1]:.3f}, {ratio:.2f} of the tokens to the same loss, step time {slower:.2f} times."
        )
    passed = all(
        numbers[f"{student}, least gain"] >= MARGIN and numbers[f"{student}, step time"] <= SLOWDOWN
        for student in STUDENTS
    )
    return Verdict(passed, " ".join(sentences), numbers)


DISTILLATION = Claim(
    name="distillation",
    statement="Students that learn what a teacher expects beat the same students from scratch at equal tokens.",
    setup=(
        "Nano Scout and nano Maverick on the starter pack, prose and pictures, 300 steps of 4,096 tokens in the same "
        "order; the teacher is nano Behemoth after 1,200 steps on other draws of the same data. Targets are sparse "
        "unbiased samples, kept on disk; the weight of soft targets follows the gap to the teacher. Losses are on hard "
        "labels of chapters that were never seen. This form is reckoned at two hours of two cores; 2,000 "
        "steps and 8,000 of the teacher were the plan."
    ),
    rule=(
        "Both students, in every seed: at least 0.03 nats a token better on held-out prose, and a step with cached "
        "targets takes at most 1.10 times as long."
    ),
    arms=_arms,
    measure=_measure,
    judge=_judge,
    draw=lambda evidence: draw_bars(
        evidence,
        {
            "hard nats": "nats per token, held out",
            "ECE": "calibration error",
            "step seconds": "seconds a step",
        },
    ),
)
