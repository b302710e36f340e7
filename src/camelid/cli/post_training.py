"""`camelid rl` and `camelid dpo`: a stage after pretraining on a view, what it changed at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from camelid.cli.post_training_commands import Dpo, Rl
from camelid.cli.told_changes import told_changes
from camelid.cli.training_run import run_stage
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.infer.locate import choose_model
from camelid.recipes.post_training import DPO_RECIPES, RL_RECIPES
from camelid.stages.dpo import DpoConfig, dpo
from camelid.stages.rl import RlConfig, rl

__all__ = ["resume_dpo", "resume_rl", "start_dpo", "start_rl"]

AnyConfig = TypeVar("AnyConfig", RlConfig, DpoConfig)


def start_rl(command: Rl) -> int:
    """A new run with the numbers of a recipe and a command line; the exit code."""
    base = str(choose_model(command.model))
    if command.recipe:
        config = _recipe(command.recipe, RL_RECIPES).replace(base=base)
    elif command.task:
        config = RlConfig(base, command.task)
    else:
        raise ConfigError("reinforcement learning needs a --task or a --recipe")
    config = config.replace(
        **_given(
            tasks=command.task or None,
            prompts_per_step=command.prompts,
            samples_per_prompt=command.samples,
            kl_weight=command.kl,
            teacher=None if command.teacher is None else str(choose_model(command.teacher)),
            num_held_out=command.held_out,
            seed=command.seed,
        )
    )
    return _run_rl(_trained(config, command), command.run_root, None)


def resume_rl(run_dir: Path) -> int:
    """Goes on with a run after its last checkpoint; the exit code."""
    run = RunDir.open(run_dir)
    return _run_rl(RlConfig.load(run.config_path), run_dir.parent, run)


def start_dpo(command: Dpo) -> int:
    """A new run with the numbers of a recipe and a command line; the exit code."""
    base = str(choose_model(command.model))
    pairs = _given(
        paths=tuple(map(str, command.data)) or None,
        variant=command.variant,
        sampled_tasks=command.task or None,
    )
    config = _recipe(command.recipe, DPO_RECIPES) if command.recipe else DpoConfig(base, **pairs)
    loss = _given(beta=command.beta, per_token=command.per_token or None, sft_weight=command.sft_weight)
    config = config.replace(
        base=base,
        loss=config.loss.replace(**loss),
        **pairs,
        **_given(num_held_out=command.held_out, seed=command.seed),
    )
    return _run_dpo(_trained(config, command), command.run_root, None)


def resume_dpo(run_dir: Path) -> int:
    """Goes on with a run after its last checkpoint; the exit code."""
    run = RunDir.open(run_dir)
    return _run_dpo(DpoConfig.load(run.config_path), run_dir.parent, run)


def _recipe(name: str, recipes: Mapping[str, Any]) -> Any:
    if name not in recipes:
        raise ConfigError(f"no recipe {name!r}; there are: {', '.join(recipes)}")
    return recipes[name]()


def _given(**values: Any) -> dict[str, Any]:
    """What was typed."""
    return {name: value for name, value in values.items() if value is not None}


def _trained(config: AnyConfig, command: Rl | Dpo) -> AnyConfig:
    train = config.train
    if command.lr is not None:
        train = train.replace(optimizer=train.optimizer.replace(lr=command.lr))
    minutes = command.minutes if isinstance(command, Rl) else None
    train = train.replace(**_given(steps=command.steps, max_minutes=minutes))
    return config.replace(train=train, **({"lora": None} if command.full else {}))


def _run_rl(config: RlConfig, run_root: Path, resume: RunDir | None) -> int:
    return run_stage(
        "rl",
        f"learning by reward, {Path(config.base).name}",
        config,
        lambda observers: rl(config, run_root=run_root, resume=resume, observers=observers),
        told_changes,
    )


def _run_dpo(config: DpoConfig, run_root: Path, resume: RunDir | None) -> int:
    return run_stage(
        "dpo",
        f"tuning to preferences, {Path(config.base).name}",
        config,
        lambda observers: dpo(config, run_root=run_root, resume=resume, observers=observers),
        told_changes,
    )
