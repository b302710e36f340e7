"""What generators and loaders need of a tokenizer and of a chat format, Llama 4's own or another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from camelid.core.batch import ModelInput
from camelid.core.messages import Message, Part

__all__ = ["AnyChatFormat", "AnyTokenizer"]


@runtime_checkable
class AnyTokenizer(Protocol):
    """Text to ids and back. Text never becomes a special token."""

    stop_ids: tuple[int, ...]

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""
        ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes behind token ids."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The same as text; bytes that are no UTF-8 become U+FFFD."""
        ...

    def token_bytes(self) -> list[bytes | None]:
        """What each id is in text; None for special tokens and ids without a token."""
        ...


@runtime_checkable
class AnyChatFormat(Protocol):
    """Messages and documents to model input."""

    @property
    def tokenizer(self) -> AnyTokenizer: ...

    def encode(self, messages: Sequence[Message], *, for_generation: bool = False) -> ModelInput:
        """A conversation, with the loss on what the assistant says."""
        ...

    def encode_document(self, parts: Sequence[Part]) -> ModelInput:
        """A document, with the loss on all of it."""
        ...
