"""`camelid long-context`: mid-training on longer sequences, and what it did for recall and loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

if TYPE_CHECKING:
    from camelid.core.run_dir import RunDir
    from camelid.stages.long_context import LongContextConfig

__all__ = ["LongContext"]


@dataclass(frozen=True)
class LongContext:
    """Train a finished model on longer sequences; recall by length and loss by position before and after."""

    model: Positional[Annotated[Path | None, arg(metavar="MODEL")]] = None
    """A run, a checkpoint or a model folder. Default: the newest run, else the shipped weights."""
    length: int = 8192
    """Longest document, and tokens per step."""
    promise: int = 0
    """Context that the saved model allows; 0: the length."""
    steps: int = 300
    """How many."""
    lr: float = 1e-3
    """Highest learning rate."""
    data: UseAppendAction[tuple[Path, ...]] = ()
    """Texts of your own beside the novels: a .jsonl or .parquet file or a folder; may be given several times."""
    run_root: Path = Path("runs")
    """Where the run's folder is made."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run after its last checkpoint, as it was configured."""

    def run(self) -> int:
        """A new run, or the rest of one."""
        from camelid.core.run_dir import RunDir
        from camelid.infer.locate import choose_model
        from camelid.recipes.long_context import nano_long_context
        from camelid.stages.long_context import LongContextConfig

        if self.resume is not None:
            run = RunDir.open(self.resume)
            return _run(LongContextConfig.load(run.config_path), self.resume.parent, run)
        recipe = nano_long_context(str(choose_model(self.model)))
        optimizer = recipe.train.optimizer.replace(lr=self.lr)
        config = recipe.replace(
            length=self.length,
            promise=self.promise,
            paths=tuple(map(str, self.data)),
            train=recipe.train.replace(steps=self.steps, optimizer=optimizer),
        )
        return _run(config, self.run_root, None)


def _run(config: LongContextConfig, run_root: Path, resume: RunDir | None) -> int:
    from camelid.cli.training_run import run_stage
    from camelid.stages.long_context import long_context
    from camelid.train import Observer

    folders: list[RunDir] = []

    def start(observers: list[Observer]) -> RunDir:
        folders.append(long_context(config, run_root=run_root, resume=resume, observers=observers))
        return folders[0]

    title = f"long context of {Path(config.base).name}"
    code = run_stage("long-context", title, config, lambda observers: start(list(observers)))
    _compare(folders[0])
    return code


def _compare(run: RunDir) -> None:
    """Prints before beside after, as far as both were measured."""
    from rich.console import Console
    from rich.table import Table

    from camelid.eval import LongContextReport

    paths = [run.evals_dir / f"{moment}.json" for moment in ("before", "after")]
    if not all(path.is_file() for path in paths):
        return
    before, after = (LongContextReport.load(path) for path in paths)
    table = Table(title="never seen before")
    for heading in ("what", "tokens", "before", "after"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for old, new in zip(before.scores, after.scores, strict=True):
        table.add_row(
            f"{new.kind}, right", f"{new.mean_tokens:,.0f}", f"{old.accuracy:.0%}", f"{new.accuracy:.0%}"
        )
    for was, now in zip(before.losses, after.losses, strict=True):
        span = f"{now.start:,} – {now.end:,}"
        table.add_row("nats per token", span, f"{was.nats_per_token:.3f}", f"{now.nats_per_token:.3f}")
    Console().print(table)
