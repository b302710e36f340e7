"""Making loss go down, at any stage.

In: a model, batches, numbers. Out: metrics and checkpoints. Must not know: which stage it serves.
"""

from camelid.train.balance import BalanceConfig
from camelid.train.loop import Observer, TrainConfig, train
from camelid.train.optimizer import OptimizerConfig
from camelid.train.schedule import WarmupStableDecay
from camelid.train.step import StepMetrics

__all__ = [
    "BalanceConfig",
    "Observer",
    "OptimizerConfig",
    "StepMetrics",
    "TrainConfig",
    "WarmupStableDecay",
    "train",
]
