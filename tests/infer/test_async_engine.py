"""Streams in an event loop: many at once, hung up, refused, and after the end."""

from __future__ import annotations

import asyncio

import pytest

from camelid.core.errors import InputError
from camelid.infer.async_engine import AsyncEngine, EngineStopped
from camelid.infer.engine import EngineConfig
from camelid.infer.request import QueueFull, Request, TokenEvent
from tiny_engines import engine, ids, request, run


async def collect(serving: AsyncEngine, one: Request) -> list[TokenEvent]:
    return [event async for event in serving.stream(one)]


async def settled(serving: AsyncEngine) -> None:
    """When nothing runs any more."""
    while serving.stats.num_running or serving.stats.num_waiting:
        await asyncio.sleep(0.01)


def test_many_streams() -> None:
    many = [request(f"r{i}", 10 + i, i) for i in range(20)]
    alone = run(engine(), *many)

    async def serve() -> list[list[TokenEvent]]:
        serving = AsyncEngine(engine(config=EngineConfig(max_running=6)))
        answers = await asyncio.gather(*(collect(serving, one) for one in many))
        await serving.close()
        return answers

    for one, events in zip(many, asyncio.run(serve()), strict=True):
        assert ids(events) == ids(alone[one.id])


def test_hanging_up_frees_at_once() -> None:
    """By closing the stream, by cancelling the task that reads it, and before its first token."""

    async def serve() -> None:
        serving = AsyncEngine(engine())
        stream = serving.stream(request("closed", 10, max_tokens=2000))
        async for _ in stream:
            break
        await stream.aclose()
        task = asyncio.create_task(collect(serving, request("cancelled", 10, max_tokens=2000)))
        while not serving.stats.num_running:
            await asyncio.sleep(0.01)
        task.cancel()
        early = asyncio.create_task(collect(serving, request("early", 10, max_tokens=2000)))
        await asyncio.sleep(0)
        early.cancel()
        await asyncio.gather(task, early, return_exceptions=True)
        await settled(serving)
        assert serving.stats.pages_free == serving.stats.pages_total and serving.stats.num_finished == 0
        assert len(await collect(serving, request("next", 10))) == 12
        await serving.close()

    asyncio.run(asyncio.wait_for(serve(), 60))


def test_events_are_held_back_only_while_more_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that may take: the end of all work, by a cancellation too, brings what has come so far."""
    monkeypatch.setattr("camelid.infer.async_engine.HAND_OUT_SECONDS", 600.0)

    async def serve() -> None:
        serving = AsyncEngine(engine())
        await asyncio.sleep(0.01)
        short = asyncio.create_task(collect(serving, request("short", 10, max_tokens=3)))
        long = asyncio.create_task(collect(serving, request("long", 10, max_tokens=2000)))
        while serving.stats.num_finished == 0:
            await asyncio.sleep(0.001)
        assert not short.done()
        long.cancel()
        assert len(await short) == 3
        await serving.close()

    asyncio.run(asyncio.wait_for(serve(), 60))


def test_refusals_reach_their_caller_alone() -> None:
    async def serve() -> None:
        serving = AsyncEngine(engine(pages=3, config=EngineConfig(max_running=1, max_waiting=1)))
        with pytest.raises(InputError, match="192"):
            await collect(serving, request("long", 192))
        running = asyncio.create_task(collect(serving, request("running", 5, max_tokens=100)))
        while not serving.stats.num_running:
            await asyncio.sleep(0.01)
        with pytest.raises(InputError, match="'running' is running"):
            await collect(serving, request("running", 5))
        waiting = asyncio.create_task(collect(serving, request("waiting", 5)))
        while not serving.stats.num_waiting:
            await asyncio.sleep(0.01)
        with pytest.raises(QueueFull):
            await collect(serving, request("more", 5))
        assert [len(events) for events in await asyncio.gather(running, waiting)] == [100, 12]
        await serving.close()

    asyncio.run(asyncio.wait_for(serve(), 60))


def test_the_end() -> None:
    """Streams that run when the engine ends, or fails, hear of it, and so do those that come later."""

    async def serve() -> None:
        broken = engine()
        serving = AsyncEngine(broken)
        stream = asyncio.create_task(collect(serving, request("one", 5, max_tokens=4000)))
        while not serving.stats.num_running:
            await asyncio.sleep(0.01)
        broken.step = lambda: 1 / 0  # type: ignore[assignment, method-assign, return-value]
        with pytest.raises(EngineStopped, match="ZeroDivisionError"):
            await stream
        with pytest.raises(EngineStopped):
            await collect(serving, request("two", 5))
        closed = AsyncEngine(engine())
        stream = asyncio.create_task(collect(closed, request("one", 5, max_tokens=4000)))
        await asyncio.sleep(0.05)
        await closed.close()
        with pytest.raises(EngineStopped, match="closed"):
            await stream

    asyncio.run(asyncio.wait_for(serve(), 60))
