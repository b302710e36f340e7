"""What a policy has tried: groups of its own answers to verifiable prompts, with rewards, ready to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from camelid.core import Batch, ModelInput
from camelid.data.verifiable import Challenge
from camelid.infer.rollouts import Rollout, sample
from camelid.inputs import ChatFormat
from camelid.model import Llama4
from camelid.train.policy_loss import group_advantages, is_informative

__all__ = ["Experience", "Group", "answered", "ask_groups", "pack_experience"]

RIGHT = 1.0 - 1e-6


@dataclass(frozen=True)
class Group:
    """One prompt, several answers to it, and what each was worth."""

    prompt: ModelInput
    rollouts: tuple[Rollout, ...]
    rewards: tuple[float, ...]

    @property
    def pass_rate(self) -> float:
        """The share of answers with the full reward."""
        return sum(reward >= RIGHT for reward in self.rewards) / len(self.rewards)


@dataclass(frozen=True)
class Experience:
    """Sequences packed into batches; per batch, for its valid tokens: ln p when sampled, advantage, sequence number.

    `numbers` describe how the prompts went, those included from which nothing can be learnt.
    """

    batches: tuple[Batch, ...]
    sampled_logprobs: tuple[Float[Tensor, "_"], ...]
    advantages: tuple[Float[Tensor, "_"], ...]
    sequences: tuple[Tensor, ...]
    numbers: dict[str, float]


def ask_groups(
    model: Llama4,
    chat_format: ChatFormat,
    challenges: Sequence[Challenge],
    seeds: np.random.Generator,
    *,
    samples: int,
    max_tokens: int,
    temperature: float = 1.0,
) -> list[Group]:
    """`samples` answers to each challenge, all at once."""
    prompts = [chat_format.encode(challenge.messages, for_generation=True) for challenge in challenges]
    rollouts = sample(
        model,
        chat_format.tokenizer,
        [prompt for prompt in prompts for _ in range(samples)],
        seeds.integers(2**31, size=len(prompts) * samples).tolist(),
        max_tokens=max_tokens,
        temperature=temperature,
    )
    groups = []
    for number, (challenge, prompt) in enumerate(zip(challenges, prompts, strict=True)):
        own = tuple(rollouts[number * samples : (number + 1) * samples])
        # An answer that was cut off is no answer.
        rewards = tuple(challenge.reward(one.text) if one.finish_reason == "stop" else 0.0 for one in own)
        groups.append(Group(prompt, own, rewards))
    return groups


def answered(prompt: ModelInput, rollout: Rollout) -> ModelInput:
    """The prompt with its answer, which alone counts."""
    ids = torch.tensor(rollout.token_ids)
    weights = torch.cat([torch.zeros(len(prompt)), torch.ones(len(ids))])
    return replace(prompt, token_ids=torch.cat([prompt.token_ids, ids]), loss_weights=weights)


def pack_experience(groups: Sequence[Group], batch_tokens: int, *, keeps_all: bool = False) -> Experience:
    """Drops groups whose answers were all worth the same, unless told otherwise, and packs the others.

    A sequence longer than `batch_tokens` has a batch of its own.
    """
    rewards = torch.tensor([group.rewards for group in groups])
    advantages, informative = group_advantages(rewards), is_informative(rewards)
    rows: list[list[tuple[ModelInput, Rollout, float]]] = [[]]
    num_tokens = 0
    for group, row, is_kept in zip(groups, advantages.tolist(), informative.tolist(), strict=True):
        if not (is_kept or keeps_all):
            continue
        for rollout, advantage in zip(group.rollouts, row, strict=True):
            sequence = answered(group.prompt, rollout)
            if rows[-1] and num_tokens + len(sequence) > batch_tokens:
                rows.append([])
                num_tokens = 0
            rows[-1].append((sequence, rollout, advantage))
            num_tokens += len(sequence)
    packs = [pack for pack in rows if pack]
    lengths = [torch.tensor([len(rollout.token_ids) for _, rollout, _ in pack]) for pack in packs]
    answer_tokens = sum(len(rollout.token_ids) for group in groups for rollout in group.rollouts)
    return Experience(
        tuple(Batch.pack([sequence for sequence, _, _ in pack]) for pack in packs),
        tuple(torch.tensor([x for _, rollout, _ in pack for x in rollout.logprobs]) for pack in packs),
        tuple(
            torch.tensor([advantage for _, _, advantage in pack]).repeat_interleave(length)
            for pack, length in zip(packs, lengths, strict=True)
        ),
        tuple(torch.arange(len(length)).repeat_interleave(length) for length in lengths),
        {
            "reward": float(rewards.mean()),
            "pass_rate": sum(group.pass_rate for group in groups) / len(groups),
            "groups_dropped": float((~informative).sum()) / len(groups),
            "answer_tokens": answer_tokens / rewards.numel(),
        },
    )
