"""Mid-training of a nano model on 8k tokens: numbers, no logic."""

from __future__ import annotations

from camelid.data import StarterWeights
from camelid.recipes.nano import nano_scout
from camelid.stages.long_context import LongContextConfig, LongWeights
from camelid.train import OptimizerConfig, TrainConfig, WarmupStableDecay

__all__ = ["nano_long_context"]


def nano_long_context(base: str) -> LongContextConfig:
    """From 512 tokens to 8,192, with a fifth of the examples as they were before."""
    return LongContextConfig(
        base=base,
        length=8192,
        weights=LongWeights(prose=0.5, recall=0.15, tracking=0.15, short=0.2),
        starter=nano_scout().data.starter or StarterWeights(),
        train=TrainConfig(
            steps=300,
            optimizer=OptimizerConfig(lr=1e-3),
            schedule=WarmupStableDecay(warmup=0.05, decay=0.6),
            checkpoint_every=50,
        ),
    )
