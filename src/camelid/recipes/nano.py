"""Recipes for nano models on the starter pack: numbers, no logic.

Most of the mixture is one question in English about one picture. Whatever cannot be foreseen (prose, eleven more
languages, captions before their pictures) is noise to the rest while batches are small, and held the eyes back
more than its share. Pictures are bent only a little: what has to be bridged is drawing style, and strong bending
made learning slower for nothing (docs/log.md).
"""

from __future__ import annotations

from camelid.data import AugmentConfig, NamingConfig, StarterWeights
from camelid.model import preset
from camelid.stages.distill import CodistillConfig, DistillConfig, Student
from camelid.stages.pretrain import DataConfig, PretrainConfig
from camelid.train import Gap, OptimizerConfig, TrainConfig, WarmupStableDecay

__all__ = ["ENGLISH_NAMES", "GENTLE", "nano_herd", "nano_scout", "nano_scout_distilled"]

GENTLE = AugmentConfig(
    scale=(0.8, 1.05),
    rotation_degrees=6.0,
    wide_rotation_degrees=12.0,
    shear=0.05,
    perspective=0.04,
    hue_degrees=10.0,
    white_share=0.7,
)
# What is shown is asked for by name, in English, in one turn.
ENGLISH_NAMES = NamingConfig(english=1.0, documents=0.0, text_first=0.0, name_first=0.92, one_turn=1.0)


def nano_scout() -> PretrainConfig:
    """The shipped weights: 82 minutes on two CPU cores."""
    return PretrainConfig(
        preset="nano-scout",
        model=preset("nano-scout"),
        train=TrainConfig(
            steps=100_000,
            optimizer=OptimizerConfig(lr=3e-3),
            schedule=WarmupStableDecay(warmup=0.01, decay=0.8),
            max_minutes=82,
            checkpoint_every=250,
        ),
        data=DataConfig(
            starter=StarterWeights(
                naming=0.64,
                which_of=0.015,
                scenes=0.25,
                clips=0.05,
                motion=0.025,
                prose=0.01,
                glosses=0.004,
                words=0.006,
            ),
            augment=GENTLE,
            batch_tokens=6144,
        ),
    )


def nano_scout_distilled() -> DistillConfig:
    """Nano Scout as the shipped weights were trained, under a finished teacher: `--teacher FOLDER`."""
    return DistillConfig(student=nano_scout(), teacher="runs/nano-behemoth", soft_weight=Gap())


def nano_herd() -> CodistillConfig:
    """Nano Behemoth learns for 3,600 steps, and nano Scout and nano Maverick from it, 300 steps behind."""
    recipe = nano_scout()
    train = recipe.train.replace(steps=3600, max_minutes=0.0)
    return CodistillConfig(
        teacher=recipe.replace(
            preset="nano-behemoth",
            model=preset("nano-behemoth"),
            train=train.replace(optimizer=OptimizerConfig(lr=2e-3)),
        ),
        students=tuple(Student(name, preset(name), train) for name in ("nano-scout", "nano-maverick")),
        segment_steps=300,
    )
