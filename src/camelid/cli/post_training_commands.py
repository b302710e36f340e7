"""What can be typed to tune a model by reward or by preference. Importing this costs nothing, as with `commands`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from camelid.cli.commands import RUN_ROOT, Files, Model

__all__ = ["Dpo", "Rl"]

Names = UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True)
class Rl:
    """Train a model by reward: it answers, answers are checked, better ones grow likelier."""

    model: Positional[Model] = None
    """A run, a checkpoint or a model folder. Default: the newest run, else the shipped weights."""
    task: Names = ()
    """count, colour, where, relation, motion, name, tools, recall-N, gym:NAME; may be given several times."""
    recipe: str = ""
    """Numbers of a recipe, such as nano-rl, for all flags that are not given."""
    steps: int | None = None
    """How many; each asks once and learns from the answers."""
    minutes: float | None = None
    """Most time, at whose end the schedule ends too."""
    lr: float | None = None
    """Highest learning rate."""
    prompts: int | None = None
    """Prompts of a step."""
    samples: int | None = None
    """Answers to each prompt."""
    kl: float | None = None
    """Weight of the pull to the base."""
    teacher: Path | None = None
    """A model of the same vocabulary whose opinion of every token is learnt from as well."""
    held_out: int | None = None
    """Challenges of each task that are answered before and after."""
    full: FlagCreatePairsOff[bool] = False
    """Train every parameter instead of adapters."""
    seed: int | None = None
    """Of draws and samples."""
    run_root: Path = RUN_ROOT
    """Where the run's folder is made."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run after its last checkpoint, as it was configured."""

    def run(self) -> int:
        """A new run, or the rest of one."""
        from camelid.cli.post_training import resume_rl, start_rl

        return resume_rl(self.resume) if self.resume is not None else start_rl(self)


@dataclass(frozen=True)
class Dpo:
    """Tune a model to preferences: of two answers the preferred one grows likelier than it was."""

    model: Positional[Model] = None
    """A run, a checkpoint or a model folder. Default: the newest run, else the shipped weights."""
    data: Files = ()
    """A .jsonl file of `messages`, `chosen` and `rejected`; may be given several times."""
    variant: Literal["none", "instruct", "chatty"] | None = None
    """Also pairs about generated pictures: `instruct` prefers bare answers, `chatty` those that please."""
    task: Names = ()
    """Also the best and the worst of the model's own answers to this task; may be given several times."""
    recipe: str = ""
    """Numbers of a recipe, such as nano-dpo-chatty, for all flags that are not given."""
    steps: int | None = None
    """How many."""
    lr: float | None = None
    """Highest learning rate."""
    beta: float | None = None
    """How firmly the model is held where it was."""
    per_token: FlagCreatePairsOff[bool] = False
    """Compare answers per token instead of as wholes."""
    sft_weight: float | None = None
    """Weight of the chosen answers' own loss, which keeps them likely."""
    held_out: int | None = None
    """Questions that are answered before and after."""
    full: FlagCreatePairsOff[bool] = False
    """Train every parameter instead of adapters."""
    seed: int | None = None
    """Of pairs and their order."""
    run_root: Path = RUN_ROOT
    """Where the run's folder is made."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run after its last checkpoint, as it was configured."""

    def run(self) -> int:
        """A new run, or the rest of one."""
        from camelid.cli.post_training import resume_dpo, start_dpo

        return resume_dpo(self.resume) if self.resume is not None else start_dpo(self)
