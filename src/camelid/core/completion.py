"""Asking for a completion and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from camelid.core.messages import Message
from camelid.core.sampling import SamplingParams

__all__ = ["Completion", "DocumentScorer", "FinishReason", "MessageCompleter", "TokenScorer", "Usage"]

FinishReason = Literal["stop", "length", "cancelled"]


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


@runtime_checkable
class TokenScorer(Protocol):
    """Anything that says how surprised it is by each token of a text."""

    def token_nats(self, text: str) -> Sequence[float]:
        """-ln p of every token after the first, the document's end included."""
        ...
