"""The numbers of a whole herd: one configuration per kind of stage, shared by its students."""

from __future__ import annotations

from dataclasses import dataclass, field

from camelid.core import Config
from camelid.core.errors import ConfigError
from camelid.herd.evaluation import EvaluationConfig
from camelid.stages.distill import CodistillConfig
from camelid.stages.dpo import DpoConfig
from camelid.stages.long_context import LongContextConfig
from camelid.stages.rl import RlConfig
from camelid.stages.sft import SftConfig

__all__ = ["OWN_TEACHER", "HerdConfig"]

OWN_TEACHER = "teacher"


@dataclass(frozen=True)
class HerdConfig(Config):
    """Teacher and students learn together; then each student goes through the other stages, None being left out.

    `base` is empty in all of them: a stage goes on with the model that the one before it left. `variants` are tuned
    to preferences one beside the other, each from the same model, and named by their `variant`. In `rl`, a `teacher`
    named "teacher" is the herd's own. Every end model, and what pretraining left, is evaluated.
    """

    name: str
    pretraining: CodistillConfig
    long_context: LongContextConfig | None = None
    sft: SftConfig | None = None
    rl: RlConfig | None = None
    variants: tuple[DpoConfig, ...] = ()
    evaluation: EvaluationConfig | None = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        for part in (self.long_context, self.sft, self.rl, *self.variants):
            if part is not None and part.base:
                raise ConfigError(
                    f"{type(part).__name__} names the base {part.base!r}: it goes on with what the stage before it left"
                )
        if self.evaluation is not None and self.evaluation.model:
            raise ConfigError(f"evaluation names the model {self.evaluation.model!r}: all are evaluated")
        names = [one.variant for one in self.variants]
        if len(set(names)) < len(names):
            raise ConfigError(f"chat variants need different names, got {names}")
