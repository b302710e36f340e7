"""Loading the model that a command means, and saying which it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from camelid.core import Message, MessageCompleter, SamplingParams
from camelid.infer import Generator, locate

__all__ = ["StreamingCompleter", "load_model"]


class StreamingCompleter(MessageCompleter, Protocol):
    """A completer that can also hand out its answer in pieces."""

    def stream(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[str]:
        """Pieces of one answer."""
        ...


def load_model(named: Path | None, memory_gb: float | None = None) -> StreamingCompleter:
    """Chooses, says on stderr which and, should experts stay on disk, what that costs, and loads."""
    directory = locate.choose_model(named)
    what = "the shipped weights" if directory == locate.SHIPPED_MODEL else str(directory)
    print(f"model: {what}", file=sys.stderr)
    memory_bytes = None if memory_gb is None else int(memory_gb * 1e9)
    return Generator.load(
        directory, memory_bytes=memory_bytes, announce=lambda plan: print(plan, file=sys.stderr)
    )
