"""One training step in bf16 against transformers, its time and its memory: forward, backward, fused AdamW."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from camelid.core.memory import keep_freed_memory
from camelid.train.losses import cross_entropy_sum
from measure import Side, compare, race
from peer import build_ours, build_peer, random_tokens

LENGTH, LEARNING_RATE = 512, 1e-4
LOSS_TOLERANCE = 0.02  # nats, of about 9.4; measured differences are in the results
MEMORY_REQUIRED, MEMORY_AIM = 2.0, 4.0
# preset, sequences, rounds, ratio required, ratio aimed at. At 8 x 512 the peer's Maverick outgrows our machine.
CASES = (
    ("mini-scout", 8, 2, 6.0, 9.0),
    ("mini-maverick", 2, 3, 12.0, 18.0),
    ("mini-maverick", 4, 2, 12.0, 18.0),
)


def peer_step(name: str, sequences: int) -> Callable[[], float]:
    """Builds the peer's step, which returns its loss."""
    model = build_peer(name).train()
    optimizer = _optimizer(model)
    tokens = random_tokens(sequences, LENGTH, model.config.vocab_size)

    def step() -> float:
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def our_step(name: str, sequences: int) -> Callable[[], float]:
    """Builds our step on the same tokens: each but a sequence's last predicts the next."""
    model = build_ours(name).train()
    keep_freed_memory()  # as every training run of ours does
    optimizer = _optimizer(model)
    tokens = random_tokens(sequences, LENGTH, model.config.text.vocab_size)
    targets = tokens.roll(-1, dims=1).flatten()
    loss_weights = torch.ones(tokens.shape)
    loss_weights[:, -1] = 0

    def step() -> float:
        hidden = model(tokens.flatten(), [LENGTH] * sequences).hidden
        head = model.language_model.lm_head.weight
        loss, _ = cross_entropy_sum(hidden, head, targets, loss_weights.flatten())
        mean = loss / loss_weights.sum()
        mean.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(mean.detach())

    return step


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)


def run_case(name: str, sequences: int, rounds: int, required: float, aim: float) -> None:
    """Races one preset, refuses losses that differ, and reports time and memory."""
    peer, ours = race(partial(peer_step, name, sequences), partial(our_step, name, sequences), rounds)
    _check_losses(name, peer, ours)
    facts = {
        "what": "training step: forward, backward, fused AdamW; weights, gradients and optimizer state in bf16",
        "preset": name,
        "batch": [sequences, LENGTH],
        "first_loss": {"peer": peer.first_result, "ours": ours.first_result},
    }
    speed = sequences * LENGTH / statistics.median(ours.seconds)
    compare(
        f"train-step-{name}-{sequences}x{LENGTH}",
        "s",
        peer.seconds,
        ours.seconds,
        required=required,
        aim=aim,
        **facts,
        our_tokens_per_second=round(speed),
    )
    facts["what"] += "; peak resident set of the whole process that trains"
    compare(
        f"train-memory-{name}-{sequences}x{LENGTH}",
        "GB",
        [peer.peak_gb],
        [ours.peak_gb],
        required=MEMORY_REQUIRED,
        aim=MEMORY_AIM,
        **facts,
    )


def _check_losses(name: str, peer: Side, ours: Side) -> None:
    if abs(peer.first_result - ours.first_result) > LOSS_TOLERANCE:
        sys.exit(f"{name}: the losses differ, peer {peer.first_result:.4f}, ours {ours.first_result:.4f}")


if __name__ == "__main__":
    print(f"peer and ours share weights and tokens; sequences of {LENGTH}")
    for case in CASES:
        run_case(*case)
