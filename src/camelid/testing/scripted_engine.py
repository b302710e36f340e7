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

    async def stream(self, request: Request) -> AsyncGenerator[TokenEvent]:
        """One byte per event, up to `max_tokens`."""
        self.requests.append(request)
        self.num_running += 1
        is_done = False
        try:
            data, index = self._text.encode(), 0
            sampling = request.sampling
            while not is_done:
                # Whoever never really waits cannot be cancelled by anyio.
                await asyncio.sleep(0.001 if self._is_endless else 0)
                byte = data[index % len(data)]
                index += 1
                is_last = index == len(data) and not self._is_endless
                is_done = is_last or index == sampling.max_tokens
                logprob = None if sampling.num_logprobs is None else TokenLogprob(byte, -0.5)
                others = tuple(
                    TokenLogprob(other, -1.0 - other) for other in range(sampling.num_logprobs or 0)
                )
                reason: FinishReason | None = None if not is_done else "stop" if is_last else "length"
                experts = ((byte % 4,), (), (byte % 4,), (byte % 4,)) if request.wants_experts else ()
                usage = Usage(len(request.prompt), index, 3) if is_done else None
                yield TokenEvent(
                    request.id, byte, chr(byte), logprob, others, experts, finish_reason=reason, usage=usage
                )  # fmt: skip
            self.num_finished += 1
        finally:
            self.num_running -= 1
            self.num_cancelled += not is_done

    async def close(self) -> None:
        """Nothing is held."""
