"""Token ids to text that can be shown: never half a character, and nothing of what may become a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from camelid.inputs import AnyTokenizer, StreamDecoder

__all__ = ["StopText"]


class StopText:
    """Feeds on one sequence's tokens."""

    def __init__(self, tokenizer: AnyTokenizer, stop: Sequence[str] = ()) -> None:
        self._decoder, self._stop, self._held = StreamDecoder(tokenizer), tuple(stop), ""

    def feed(self, token_id: int) -> tuple[str, bool]:
        """What can be shown now, and whether a stop string has come; then nothing may be fed any more."""
        self._held += self._decoder.feed(token_id)
        return self._settle()

    def _settle(self) -> tuple[str, bool]:
        found = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            return self._held[: min(found)], True
        # The longest end that begins a stop string waits for what follows.
        longest = max(
            (n for stop in self._stop for n in range(1, len(stop)) if self._held.endswith(stop[:n])),
            default=0,
        )
        cut = len(self._held) - longest
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, False

    def flush(self) -> str:
        """The rest, when no more tokens come; up to a stop string if that is in it."""
        self._held += self._decoder.flush()
        shown, has_stopped = self._settle()
        return shown if has_stopped else shown + self._held
