"""The engine in a thread of its own, its events handed to any number of coroutines."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue

from camelid.infer.engine import Engine
from camelid.infer.request import EngineStats, Request, TokenEvent

__all__ = ["AsyncEngine", "EngineStopped", "ReaderTooSlow"]

LOG = logging.getLogger("camelid.infer")
# Steps of small models are shorter than this. Each time the event loop wakes it takes a core from the step that has
# begun, and no screen shows more than sixty pictures a second.
HAND_OUT_SECONDS = 1 / 60
MAX_UNREAD = 4096  # events of one request, some hundred bytes each


class EngineStopped(Exception):
    """The engine was closed, or failed; the cause says how."""


class ReaderTooSlow(Exception):
    """A stream was read so slowly that its request was cancelled."""


@dataclass(frozen=True, eq=False)
class _Stream:
    """Requests that one reader listens to, and what it has not read yet."""

    requests: tuple[Request, ...]
    unread: asyncio.Queue[TokenEvent | EngineStopped | ReaderTooSlow] = field(default_factory=asyncio.Queue)


class AsyncEngine:
    """Streams of an `Engine`, made inside the event loop that it serves. `close` ends the thread.

    Only the thread touches the engine. What others want of it is called between two steps.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._streams: dict[str, _Stream] = {}
        self._wishes: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._stopped: EngineStopped | None = None
        self._thread = threading.Thread(target=self._run, name="camelid-engine", daemon=True)
        self._thread.start()

    @property
    def max_context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._engine.max_context

    @property
    def stopped_because(self) -> str | None:
        """Why it takes no requests any more; None while it does."""
        return None if self._stopped is None else str(self._stopped)

    @property
    def stats(self) -> EngineStats:
        """As the engine's."""
        return self._engine.stats

    async def stream(self, *requests: Request) -> AsyncGenerator[TokenEvent]:
        """Events of some requests, as they come, until all are done.

        Whoever stops listening (`aclose`, a cancelled task) cancels them and frees their pages. Raises InputError and
        QueueFull as `Engine.add`, EngineStopped, and ReaderTooSlow after MAX_UNREAD events for each request.
        """
        for constraint in {request.sampling.constraint for request in requests}:
            if constraint is not None:
                await asyncio.to_thread(self._engine.prepare, constraint)
        if self._stopped:
            raise self._stopped
        stream, added = _Stream(requests), self._loop.create_future()
        self._wishes.put(lambda: self._add(stream, added))
        num_left = len(requests)
        try:
            await added
            while num_left:
                event = await stream.unread.get()
                if isinstance(event, Exception):
                    raise event
                num_left -= event.finish_reason is not None
                yield event if stream.unread.empty() else replace(event, is_followed=True)
        finally:
            if num_left:
                self._wishes.put(lambda: self._cancel(stream))

    async def close(self) -> None:
        """Ends the thread after its step; streams that still run get EngineStopped."""
        self._wishes.put(self._close)
        await asyncio.to_thread(self._thread.join)

    # What follows runs in the thread.

    def _run(self) -> None:
        events: list[TokenEvent] = []
        handed_out = 0.0
        try:
            while True:
                self._fulfil_wishes(may_wait=not events)
                events += self._engine.step()
                is_due = time.monotonic() - handed_out >= HAND_OUT_SECONDS or not self._engine.has_work
                if events and is_due:
                    self._loop.call_soon_threadsafe(self._hand_out, events)
                    events, handed_out = [], time.monotonic()
        except EngineStopped as error:
            self._stopped = error
        except Exception as error:
            LOG.exception("the engine failed")
            self._stopped = EngineStopped(f"the engine failed: {error!r}")
            self._stopped.__cause__ = error
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_all, self._stopped)

    def _fulfil_wishes(self, *, may_wait: bool) -> None:
        """All that there are; waits for one if the engine has nothing to do and nothing is to be handed out."""
        try:
            while True:
                self._wishes.get(block=may_wait and not self._engine.has_work)()
        except Empty:
            pass

    def _add(self, stream: _Stream, added: asyncio.Future[None]) -> None:
        try:
            if self._stopped:
                raise self._stopped
            for request in stream.requests:
                self._engine.add(request)
                self._streams[request.id] = stream
        except Exception as error:
            self._loop.call_soon_threadsafe(_settle, added, error)
        else:
            self._loop.call_soon_threadsafe(_settle, added, None)

    def _cancel(self, stream: _Stream) -> None:
        for request in stream.requests:
            # A request that was refused for its id must not cancel the one that has it.
            if self._streams.get(request.id) is stream:
                self._streams.pop(request.id, None)
                self._engine.cancel(request.id)

    def _close(self) -> None:
        if not self._stopped:
            raise EngineStopped("the engine is closed")

    # And this in the event loop.

    def _hand_out(self, events: list[TokenEvent]) -> None:
        for event in events:
            if stream := self._streams.get(event.request_id):
                stream.unread.put_nowait(event)
                if event.finish_reason is not None:
                    self._streams.pop(event.request_id, None)
                elif stream.unread.qsize() == MAX_UNREAD * len(stream.requests):
                    stream.unread.put_nowait(ReaderTooSlow(f"{stream.unread.qsize():,} tokens were not read"))
                    self._wishes.put(partial(self._cancel, stream))

    def _end_all(self, error: EngineStopped) -> None:
        try:
            while True:  # wishes that came too late
                self._wishes.get(block=False)()
        except Empty:
            pass
        for stream in self._streams.values():
            stream.unread.put_nowait(error)


def _settle(added: asyncio.Future[None], error: Exception | None) -> None:
    if added.done():  # its stream was closed while it waited
        return
    if error is None:
        added.set_result(None)
    else:
        added.set_exception(error)
