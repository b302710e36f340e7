"""Clients of a server under load: patient ones, ones that hang up, slow ones, and ones that never read.

Sockets by hand: an HTTP library would read ahead of whoever pretends to be slow, and hundreds of them cost more than
the server under test.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ClientKind", "Outcome", "Target", "run_clients"]

ClientKind = Literal["stream", "whole", "persistent", "hang up", "hang up early", "slow", "stalled", "raw"]

TIMEOUT_SECONDS = 300.0
SMALL_BUFFER = 4096  # bytes that a slow client's kernel takes ahead of it
SLOW_SECONDS = 0.02  # between two lines
STALLED_SECONDS = 5.0


@dataclass
class Outcome:
    """What became of one client. Status 0: the connection ended without one; -1: nothing came in time."""

    kind: ClientKind
    status: int = 0
    is_whole: bool = False  # the answer came to its end
    num_tokens: int = 0
    num_retries: int = 0
    retry_after: str | None = None
    first_seconds: float | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Target:
    """Where to, and as what. `body` is JSON's value, or bytes that may be anything."""

    port: int
    path: str
    body: Any
    method: str = "POST"


async def run_clients(clients: list[tuple[ClientKind, Target]]) -> list[Outcome]:
    """All at once."""
    return await asyncio.gather(*(_run(kind, target) for kind, target in clients))


async def _run(kind: ClientKind, target: Target) -> Outcome:
    outcome = Outcome(kind)
    began = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await BEHAVIOURS[kind](target, outcome, began)
    except TimeoutError:
        outcome.status, outcome.error = -1, "nothing came"
    except (OSError, asyncio.IncompleteReadError) as error:
        outcome.error = repr(error)
    outcome.seconds = time.perf_counter() - began
    return outcome


class _Connection:
    """One request, sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    @classmethod
    async def open(cls, target: Target, *, is_small: bool = False) -> _Connection:
        own = socket.socket()
        if is_small:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", target.port))
        reader, writer = await asyncio.open_connection(sock=own, limit=SMALL_BUFFER if is_small else 2**20)
        body = target.body if isinstance(target.body, bytes) else json.dumps(target.body).encode()
        writer.write(
            f"{target.method} {target.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body)
        return cls(reader, writer)

    async def head(self, outcome: Outcome) -> None:
        outcome.status = int((await self.reader.readline() or b"- 0").split()[1])
        while (line := await self.reader.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"retry-after":
                outcome.retry_after = value.strip().decode()

    async def data(self) -> bytes | None:
        """The next event's data, None at the end."""
        while line := await self.reader.readline():
            if line.startswith(b"data: "):
                return line[len(b"data: ") :].strip()
        return None

    def abort(self) -> None:
        self._writer.transport.abort()


async def _stream(target: Target, outcome: Outcome, began: float, *, pause: float = 0.0) -> None:
    connection = await _Connection.open(target, is_small=pause > 0)
    try:
        await connection.head(outcome)
        while outcome.status == 200 and (data := await connection.data()) is not None:
            if data == b"[DONE]":
                outcome.is_whole = not outcome.error
                break
            chunk = json.loads(data)
            outcome.error = outcome.error or chunk.get("error", {}).get("message", "")
            outcome.first_seconds = outcome.first_seconds or time.perf_counter() - began
            outcome.num_tokens += 1
            await asyncio.sleep(pause)
    finally:
        connection.abort()


async def _slow(target: Target, outcome: Outcome, began: float) -> None:
    await _stream(target, outcome, began, pause=SLOW_SECONDS)


async def _whole(target: Target, outcome: Outcome, began: float) -> None:
    connection = await _Connection.open(target)
    try:
        await connection.head(outcome)
        body = await connection.reader.read()
        outcome.is_whole = "error" in json.loads(body) if outcome.status >= 400 else bool(body)
        if outcome.status == 200 and b'"usage"' in body:
            outcome.num_tokens = json.loads(body)["usage"]["completion_tokens"]
    finally:
        connection.abort()


async def _persistent(target: Target, outcome: Outcome, began: float) -> None:
    """Obeys 429 and comes again."""
    while True:
        await _whole(target, outcome, began)
        if outcome.status != 429:
            return
        outcome.num_retries += 1
        await asyncio.sleep(float(outcome.retry_after or "nan"))


async def _hang_up(target: Target, outcome: Outcome, began: float) -> None:
    connection = await _Connection.open(target)
    await connection.head(outcome)
    for _ in range(3):
        outcome.num_tokens += await connection.data() is not None
    connection.abort()


async def _hang_up_early(target: Target, outcome: Outcome, began: float) -> None:
    connection = await _Connection.open(target)
    await asyncio.sleep(0.2)
    connection.abort()


async def _stalled(target: Target, outcome: Outcome, began: float) -> None:
    connection = await _Connection.open(target, is_small=True)
    await asyncio.sleep(STALLED_SECONDS)
    connection.abort()


BEHAVIOURS: dict[ClientKind, Callable[[Target, Outcome, float], Coroutine[Any, Any, None]]] = {
    "stream": _stream,
    "whole": _whole,
    "persistent": _persistent,
    "hang up": _hang_up,
    "hang up early": _hang_up_early,
    "slow": _slow,
    "stalled": _stalled,
    "raw": _whole,
}
