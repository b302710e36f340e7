"""What a herd will need, before anything is made: parameters, FLOPs, and memory on one rank or many."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from camelid.core.errors import ConfigError
from camelid.core.memory import available_memory
from camelid.herd.config import HerdConfig
from camelid.model import Llama4, Llama4Config, active_parameters, total_parameters
from camelid.model.flops import training_flops
from camelid.train import TrainConfig
from camelid.train.memory import activation_bytes, optimizer_bytes

__all__ = ["Needs", "check_room", "needs_of", "room_here"]

FP32 = 4


@dataclass(frozen=True)
class Needs:
    """Of one member's pretraining. Weights and gradients are fp32; activations are those of one batch of text."""

    member: str
    num_parameters: int
    num_active: int
    num_tokens: int
    flops: float
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int

    def bytes_per_rank(self, num_ranks: int) -> int:
        """State cut evenly among ranks; every rank has a batch of its own."""
        state = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes
        return -(-state // num_ranks) + self.activation_bytes

    def fitting_ranks(self, rank_bytes: int) -> int | None:
        """The smallest power of two with which a rank has room; None where the batch alone is too much."""
        if self.activation_bytes >= rank_bytes:
            return None
        num_ranks = 1
        while self.bytes_per_rank(num_ranks) > rank_bytes:
            num_ranks *= 2
        return num_ranks


def needs_of(config: HerdConfig) -> list[Needs]:
    """The teacher's, then the students'. Models are only described (torch's meta device): no weights are made."""
    teacher = config.pretraining.teacher
    members = [(teacher.preset, teacher.model, teacher.train)]
    members += [(one.preset, one.model, one.train) for one in config.pretraining.students]
    return [_needs(*member, teacher.data.batch_tokens) for member in members]


def _needs(name: str, model: Llama4Config, train: TrainConfig, batch_tokens: int) -> Needs:
    with torch.device("meta"):
        parameters = dict(Llama4(model).named_parameters())
    num_parameters = sum(parameter.numel() for parameter in parameters.values())
    assert num_parameters == total_parameters(model), "what is counted is what is built"
    num_tokens = train.steps * train.micro_batches * batch_tokens
    return Needs(
        member=name,
        num_parameters=num_parameters,
        num_active=active_parameters(model),
        num_tokens=num_tokens,
        flops=training_flops(model, num_tokens, 0),
        weight_bytes=FP32 * num_parameters,
        gradient_bytes=FP32 * num_parameters,
        optimizer_bytes=optimizer_bytes(parameters, train.optimizer),
        activation_bytes=activation_bytes(model, batch_tokens, train.precision),
    )


def room_here() -> int:
    """Bytes that training may take on this machine: one GPU's, or main memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return available_memory()


def check_room(config: HerdConfig, room: int) -> None:
    """ConfigError where the herd's pretraining does not fit into so many bytes, which is one rank.

    All members' weights are held at once, and what one needs to learn.
    """
    needs = needs_of(config)
    learning = max(one.gradient_bytes + one.optimizer_bytes + one.activation_bytes for one in needs)
    needed = sum(one.weight_bytes for one in needs) + learning
    if needed > room:
        largest = max(needs, key=lambda one: one.num_parameters)
        raise ConfigError(
            f"{config.name} needs {needed / 1e9:,.1f} GB on one rank ({largest.member} has "
            f"{largest.num_parameters:,} parameters), here are {room / 1e9:,.1f} GB free; "
            f"`camelid herd {config.name} --dry-run` says what it needs on how many"
        )
