"""An engine that says what it was told to say, byte by byte: for tests of whatever stands above engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from camelid.core import FinishReason, Usage
from camelid.infer.request import EngineStats, Request, TokenEvent, TokenLogprob

__all__ = ["ScriptedEngine"]


class ScriptedEngine:
    """Every request is answered with `text`; `is_endless` begins again at its end. Remembers what was asked.

    Of four layers the second is dense; in the others a byte goes to the expert that its last two bits name.
    """

    def __init__(self, text: str, *, max_context: int = 1000, is_endless: bool = False) -> None:
        self.max_context, self._text, self._is_endless = max_context, text, is_endless
        self.requests: list[Request] = []
        self.num_running = self.num_finished = self.num_cancelled = 0

    @property
    def stopped_because(self) -> str | None:
        """It never stops."""
        return None

    @property
    def stats(self) -> EngineStats:
        """Zeros where nothing is scripted."""
        return EngineStats(0, self.num_running, self.num_finished, self.num_cancelled, *[0] * 8)

    async def stream(self, *requests: Request) -> AsyncGenerator[TokenEvent]:
        """One byte per event and request, in turns, up to `max_tokens`."""
        self.requests += requests
        self.num_running += len(requests)
        data, index, left = self._text.encode(), 0, list(requests)
        try:
            while left:
                # Whoever never really waits cannot be cancelled by anyio.
                await asyncio.sleep(0.001 if self._is_endless else 0)
                byte = data[index % len(data)]
                index += 1
                for request in tuple(left):
                    event = self._event(request, byte, index, index == len(data) and not self._is_endless)
                    if event.finish_reason is not None:
                        left.remove(request)
                        self.num_running -= 1
                        self.num_finished += 1
                    yield event
        finally:
            self.num_running -= len(left)
            self.num_cancelled += len(left)

    def _event(self, request: Request, byte: int, count: int, is_last: bool) -> TokenEvent:
        num_logprobs = request.sampling.num_logprobs
        is_done = is_last or count == request.sampling.max_tokens
        reason: FinishReason | None = None if not is_done else "stop" if is_last else "length"
        return TokenEvent(
            request.id,
            byte,
            chr(byte),
            None if num_logprobs is None else TokenLogprob(byte, -0.5),
            tuple(TokenLogprob(other, -1.0 - other) for other in range(num_logprobs or 0)),
            ((byte % 4,), (), (byte % 4,), (byte % 4,)) if request.wants_experts else (),
            finish_reason=reason,
            usage=Usage(len(request.prompt), count, 3) if is_done else None,
        )

    async def close(self) -> None:
        """Nothing is held."""
