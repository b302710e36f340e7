"""Asks TRL for its losses on fixed numbers and writes them down, for tests that must not depend on TRL.

pip install trl==1.16.0     # brings datasets, pandas and more: reasons not to have it in every test run
python scripts/trl_losses.py > tests/train/trl_losses.json

Its trainers want a model, a data set and arguments; the methods that compute a loss want very little of that. They are
called on a stand-in that has just what they read. Advantages are computed in the middle of a long method, whose very
statements are taken from its source and run.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor
from trl.trainer import grpo_trainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer

Numbers = dict[str, Any]
ANSWER_LENGTHS = (3, 5, 1, 4)
REWARDS = ((1.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0), (0.2, 0.2, 1.0, 0.0), (1.0, 1.0, 1.0, 1.0))


def normal(*shape: int, seed: int) -> Tensor:
    """The same numbers on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def stand_in(**fields: Any) -> Any:
    """A trainer on one process, which has these fields and swallows what it is told."""
    trainer = MagicMock()
    trainer.accelerator.device = torch.device("cpu")
    trainer.accelerator.num_processes = 1
    for name in ("gather", "gather_for_metrics"):
        getattr(trainer.accelerator, name).side_effect = lambda value: value
    trainer.accelerator.reduce.side_effect = lambda value, reduction: value
    trainer.model.training = False
    for name, value in fields.items():
        setattr(trainer, name, value)
    return trainer


def preferences(loss_type: str, beta: float) -> Numbers:
    """DPO on two pairs: losses of each, gradients of log-probabilities, rewards."""
    chosen_lengths, rejected_lengths = ANSWER_LENGTHS[:2], ANSWER_LENGTHS[2:]
    lengths = [*chosen_lengths, *rejected_lengths]
    width = max(lengths)
    mask = torch.tensor([[0] + [1] * length + [0] * (width - length) for length in lengths])
    logprobs = (-normal(4, width, seed=1).abs() * mask[:, 1:]).requires_grad_()
    reference = (-normal(4, width, seed=2).abs() * mask[:, 1:]).sum(1)
    zeros = torch.zeros(4, width)
    outputs = SimpleNamespace(
        log_probs=logprobs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), aux_loss=None
    )
    told: dict[str, dict[str, list[float]]] = {"eval": MagicMock(), "train": MagicMock()}
    metrics: dict[str, list[float]] = {}
    told["eval"].__getitem__.side_effect = lambda name: metrics.setdefault(name, [])  # type: ignore[attr-defined]
    trainer = stand_in(
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        beta=beta,
        label_smoothing=0.0,
        loss_types=[loss_type],
        loss_weights=[1.0],
        use_weighting=False,
        _metrics=told,
    )
    inputs = {
        "input_ids": torch.zeros(4, width + 1, dtype=torch.long),
        "attention_mask": torch.ones(4, width + 1),
        "completion_mask": mask,
        "ref_chosen_logps": reference[:2],
        "ref_rejected_logps": reference[2:],
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return {
        "beta": beta,
        "chosen_lengths": chosen_lengths,
        "rejected_lengths": rejected_lengths,
        "logprobs": logprobs.tolist(),
        "reference": reference.tolist(),
        "loss": float(loss.detach()),
        "gradient": (gradient * mask[:, 1:]).tolist(),
        "chosen_reward": metrics["rewards/chosen"][0],
        "rejected_reward": metrics["rewards/rejected"][0],
        "accuracy": metrics["rewards/accuracies"][0],
    }


def advantages() -> Numbers:
    """Group baselines without the division by the group's spread."""
    source = textwrap.dedent(inspect.getsource(GRPOTrainer._generate_and_score_completions))
    (branch,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("== 'sum_then_normalize'")
    ]
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    names = vars(grpo_trainer) | {
        "self": SimpleNamespace(scale_rewards="none", reward_weights=torch.ones(1, dtype=torch.float64)),
        "rewards_per_func": rewards.view(-1, 1),
        "num_generations": rewards.shape[1],
        "device": torch.device("cpu"),
        "unscorable_mask": torch.zeros(rewards.numel(), dtype=torch.bool),
    }
    exec(compile(ast.Module(branch.body, []), "trl", "exec"), names)  # TRL's own statements
    return {
        "rewards": REWARDS,
        "advantages": names["advantages"].view_as(rewards).tolist(),
        "is_std_zero": names["is_std_zero"].view_as(rewards)[:, 0].tolist(),
    }


def policy(kl_weight: float) -> Numbers:
    """The clipped loss, a mean over all tokens (`bnpo`: that of one batch), and gradients."""
    width = max(ANSWER_LENGTHS)
    mask = torch.tensor([[1] * length + [0] * (width - length) for length in ANSWER_LENGTHS])
    logprobs = (-normal(4, width, seed=3).abs()).requires_grad_()
    old, reference = (logprobs.detach() + 0.4 * normal(4, width, seed=seed) for seed in (4, 5))
    advantage = normal(4, seed=6)
    metrics: dict[str, list[float]] = {}
    told = MagicMock()
    told.__getitem__.side_effect = lambda mode: told_in
    told_in = MagicMock()
    told_in.__getitem__.side_effect = lambda name: metrics.setdefault(name, [])
    trainer = stand_in(
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=kl_weight,
        epsilon_low=0.2,
        epsilon_high=0.28,
        loss_type="bnpo",
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        _metrics=told,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros(4, width), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(4, 1, dtype=torch.long),
        "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.zeros(4, width, dtype=torch.long),
        "completion_mask": mask,
        "advantages": advantage,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return {
        "clip": [0.2, 0.28],
        "kl_weight": kl_weight,
        "lengths": ANSWER_LENGTHS,
        "logprobs": logprobs.tolist(),
        "old": old.tolist(),
        "reference": reference.tolist(),
        "advantages": advantage.tolist(),
        "loss": float(loss.detach()),
        "gradient": gradient.tolist(),
        "clip_share": metrics["clip_ratio/region_mean"][0],
    }


if __name__ == "__main__":
    document = {
        "schema": "trl-losses/1",
        "versions": {name: version(name) for name in ("trl", "transformers", "torch")},
        "preferences": [preferences("sigmoid", 0.1), preferences("sigmoid_norm", 2.0)],
        "advantages": advantages(),
        "policy": [policy(0.0), policy(0.05)],
    }
    print(json.dumps(document, indent=1))
