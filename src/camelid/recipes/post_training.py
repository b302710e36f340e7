"""Recipes for tuning nano models by reward and by preference: numbers, no logic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from camelid.infer.locate import SHIPPED_MODEL
from camelid.stages.dpo import DpoConfig
from camelid.stages.rl import RlConfig
from camelid.train import OptimizerConfig, TrainConfig, WarmupStableDecay
from camelid.train.preference_loss import PreferenceConfig

__all__ = ["DPO_RECIPES", "RL_RECIPES", "nano_dpo_chatty", "nano_dpo_instruct", "nano_rl"]


def nano_rl() -> RlConfig:
    """Tool calls, from a model that makes them right now and then: 25 minutes by the clock."""
    return RlConfig(
        str(SHIPPED_MODEL),
        ("tools",),
        lora=None,
        train=TrainConfig(
            steps=100_000,
            optimizer=OptimizerConfig(kind="adamw", lr=3e-4, weight_decay=0.0),
            schedule=WarmupStableDecay(warmup=0.02, decay=0.3),
            precision="fp32",
            max_minutes=25,
            checkpoint_every=50,
        ),
        prompts_per_step=16,
        samples_per_prompt=8,
        max_answer_tokens=44,  # a call with a city takes 33
        num_held_out=200,
    )


def nano_dpo_instruct() -> DpoConfig:
    """Bare right answers. The base talks so already; what it learns is to stay there, and to shun wrong ones."""
    return DpoConfig(
        str(SHIPPED_MODEL),
        variant="instruct",
        train=_preference_steps(150, lr=3e-4),
        loss=PreferenceConfig(beta=0.1, sft_weight=0.1),
    )


def nano_dpo_chatty() -> DpoConfig:
    """Answers that please. The base has never talked so: a supervised term gives it the words."""
    return DpoConfig(
        str(SHIPPED_MODEL),
        variant="chatty",
        num_pairs=4800,
        train=_preference_steps(300, lr=2e-3),
        loss=PreferenceConfig(beta=0.1, sft_weight=1.0),
    )


def _preference_steps(steps: int, lr: float) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        optimizer=OptimizerConfig(kind="adamw", lr=lr, weight_decay=0.0),
        schedule=WarmupStableDecay(warmup=0.05, decay=0.95),
        checkpoint_every=50,
    )


RL_RECIPES: Mapping[str, Callable[[], RlConfig]] = {"nano-rl": nano_rl}
DPO_RECIPES: Mapping[str, Callable[[], DpoConfig]] = {
    "nano-dpo-instruct": nano_dpo_instruct,
    "nano-dpo-chatty": nano_dpo_chatty,
}
