"""Loading the model that a command means, and saying which it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from camelid.core import Message, MessageCompleter, SamplingParams
from camelid.infer import locate

__all__ = ["StreamingCompleter", "load_model"]


class StreamingCompleter(MessageCompleter, Protocol):
    """A completer that can also hand out its answer in pieces."""

    def stream(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[str]:
        """Pieces of one answer."""
        ...


def load_model(named: Path | None) -> StreamingCompleter:
    """Chooses, says on stderr which, and loads."""
    directory = locate.choose_model(named)
    what = "the shipped weights" if directory == locate.SHIPPED_MODEL else str(directory)
    print(f"model: {what}", file=sys.stderr)
    return locate.load(directory)
