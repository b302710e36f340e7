"""The whole road of a family: a teacher, students beside it, and what makes chat variants of them.

In: stages and their numbers. Out: a folder with every run, and what is known of the family. Must not know: command
lines, and how a stage does its work.
"""

from camelid.herd.config import OWN_TEACHER, HerdConfig
from camelid.herd.evaluation import EvaluationConfig, Scorecard
from camelid.herd.family import Family
from camelid.herd.needs import Needs, check_room, needs_of
from camelid.herd.road import Watch, travel
from camelid.herd.stage import Stage, plan
from camelid.herd.state import HerdState, StageRecord

__all__ = [
    "OWN_TEACHER",
    "EvaluationConfig",
    "Family",
    "HerdConfig",
    "HerdState",
    "Needs",
    "Scorecard",
    "Stage",
    "StageRecord",
    "Watch",
    "check_room",
    "needs_of",
    "plan",
    "travel",
]
