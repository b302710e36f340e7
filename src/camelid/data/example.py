"""What sources hand out: a conversation or a document, and the protocol they all follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from camelid.core.messages import Message, Part

__all__ = ["Conversation", "Document", "Example", "Source"]


@dataclass(frozen=True)
class Conversation:
    """Turns; the loss is on what the assistant says."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Document:
    """Text, pictures and clips in running order; the loss is on all text."""

    parts: tuple[Part, ...]


Example = Conversation | Document


@runtime_checkable
class Source(Protocol):
    """An endless supply of training examples, a pure function of its arguments.

    `index` counts the examples drawn from this source so far, so that a finite source can walk through
    shuffled epochs; `rng` belongs to this one draw and decides everything else. The same pair gives the same
    example, which is what makes a killed run resume bit for bit.
    """

    name: str

    def example(self, index: int, rng: np.random.Generator) -> Example: ...
