"""Asking for a completion and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from camelid.core.config import Config
from camelid.core.errors import ConfigError
from camelid.core.messages import Message

__all__ = ["Completion", "DocumentScorer", "FinishReason", "MessageCompleter", "SamplingParams", "Usage"]

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class SamplingParams(Config):
    """How tokens are chosen. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 switch those filters off."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.temperature < 0:
            raise ConfigError(f"temperature must not be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must not be negative, got {self.top_k}")


@dataclass(frozen=True)
class Usage:
    """Tokens read and written; `cached_tokens` of the prompt were known from earlier requests."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Completion:
    """One answer: its text, its token ids (without the stop token) and why it ended."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage


@runtime_checkable
class MessageCompleter(Protocol):
    """Anything that answers messages: a model in this process or one behind a URL. All that judges may know."""

    def complete(self, messages: Sequence[Message], sampling: SamplingParams) -> Completion: ...


@runtime_checkable
class DocumentScorer(Protocol):
    """Anything that says how surprised it is by a text."""

    def document_nats(self, text: str) -> float:
        """Sum of -ln p over the document's tokens and its end."""
        ...
