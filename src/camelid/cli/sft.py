"""`camelid sft`: fine-tuning on a view, a report at the end."""

from __future__ import annotations

from pathlib import Path

from camelid.cli.commands import Sft
from camelid.cli.told_changes import told_changes
from camelid.cli.training_run import run_stage
from camelid.core.run_dir import RunDir
from camelid.infer.locate import choose_model
from camelid.model import LoraConfig
from camelid.stages.easy_examples import FilterConfig
from camelid.stages.sft import SftConfig, sft
from camelid.train import OptimizerConfig

__all__ = ["resume_sft", "start_sft"]


def start_sft(command: Sft) -> int:
    """A new run with the numbers of a command line; the exit code."""
    base = choose_model(command.model)
    paths = tuple(map(str, command.data))
    config = SftConfig(str(base), paths, tasks=command.task, batch_tokens=command.batch_tokens)
    optimizer = OptimizerConfig(kind="adamw", lr=command.lr, weight_decay=0.0)
    lora = LoraConfig(rank=command.rank, alpha=command.alpha, experts=command.experts)
    config = config.replace(
        lora=None if command.full else lora,
        filter=_filter(command),
        train=config.train.replace(steps=command.steps, optimizer=optimizer),
    )
    return _run(config, command.run_root, None)


def _filter(command: Sft) -> FilterConfig | None:
    if command.keep == 1.0 and not command.drop_solved:
        return None
    return FilterConfig(command.keep, by="answer" if command.drop_solved else "loss")


def resume_sft(run_dir: Path) -> int:
    """Goes on with a run after its last checkpoint; the exit code."""
    run = RunDir.open(run_dir)
    return _run(SftConfig.load(run.config_path), run_dir.parent, run)


def _run(config: SftConfig, run_root: Path, resume: RunDir | None) -> int:
    return run_stage(
        "sft",
        f"fine-tuning {Path(config.base).name}",
        config,
        lambda observers: sft(config, run_root=run_root, resume=resume, observers=observers),
        told_changes,
    )
