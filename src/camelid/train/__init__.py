"""Making loss go down, at any stage.

In: a model, batches, numbers. Out: metrics and checkpoints. Must not know: which stage it serves.
"""

from camelid.train.balance import BalanceConfig
from camelid.train.distillation import LearnFromTeacher, LeaveTargets
from camelid.train.loop import Observer, TrainConfig, train
from camelid.train.objective import DistillMetrics, Objective
from camelid.train.optimizer import OptimizerConfig
from camelid.train.schedule import WarmupStableDecay
from camelid.train.soft_weight import WSD, Constant, Gap, SoftWeight
from camelid.train.step import StepMetrics
from camelid.train.teacher import StoredTargets, TeacherOnTheFly

__all__ = [
    "WSD",
    "BalanceConfig",
    "Constant",
    "DistillMetrics",
    "Gap",
    "LearnFromTeacher",
    "LeaveTargets",
    "Objective",
    "Observer",
    "OptimizerConfig",
    "SoftWeight",
    "StepMetrics",
    "StoredTargets",
    "TeacherOnTheFly",
    "TrainConfig",
    "WarmupStableDecay",
    "train",
]
