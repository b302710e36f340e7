"""What the server must be told about a model, and what it asks of an engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from camelid.infer.request import EngineStats, Request, TokenEvent
from camelid.inputs import AnyChatFormat

__all__ = ["AnyEngine", "ServedModel"]


class AnyEngine(Protocol):
    """`AsyncEngine`, or what stands for it in tests."""

    @property
    def max_context(self) -> int:
        """Tokens that a prompt and its answer may have together."""

    @property
    def stats(self) -> EngineStats:
        """How full it is."""

    @property
    def stopped_because(self) -> str | None:
        """Why it takes no requests any more; None while it does."""

    def stream(self, *requests: Request) -> AsyncGenerator[TokenEvent]:
        """Events of all requests as they come; closing the stream cancels what is left."""

    async def close(self) -> None:
        """No more streams."""


@dataclass(frozen=True)
class ServedModel:
    """A model by the name under which it is served. `digest` is of its weights; no experts: all layers are dense."""

    name: str
    digest: str
    quantisation: str
    vocab_size: int
    chat_format: AnyChatFormat
    engine: AnyEngine
    num_layers: int = 0
    num_experts: int = 0
    sees: bool = False
