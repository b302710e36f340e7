"""A small fire (`benchmarks/load_server.py` is the large one): nothing stays held, nobody waits in vain."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from camelid.infer import locate
from camelid.serve import Limits
from camelid.testing.load_clients import ClientKind, Outcome, Target, run_clients
from camelid.testing.scripted_engine import ScriptedEngine
from camelid.testing.server_process import ServerProcess
from served import scripted, serving

CHAT = "/v1/chat/completions"
SECRET = "xyzzy plugh"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("server") / "log"
    flags = ["--name", "tiny", "--max-running", "4", "--max-waiting", "32", "--max-context", "1024"]
    flags += ["--max-body-mb", "0.1", "--stall-seconds", "2", "--cache-gb", "0.1"]
    with ServerProcess(log, *flags, model=str(locate.SHIPPED_MODEL)) as server:
        yield server


def target(server: ServerProcess, body: Any = None, **fields: Any) -> Target:
    """A question, or this body."""
    question = {"model": "tiny", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 30}
    return Target(server.port, CHAT, question | {"logit_bias": NEVER_ENDS} | fields if body is None else body)


NEVER_ENDS = {"4993": -100, "4999": -100, "5000": -100}  # the shipped model's stop tokens


def fire(server: ServerProcess) -> list[Outcome]:
    kinds: list[ClientKind] = ["persistent"] * 14 + ["hang up", "hang up early", "slow"] * 4 + ["stalled"] * 2
    lengths = {"hang up": 900, "hang up early": 900, "stalled": 900}
    clients = [
        (kind, target(server, stream=kind != "persistent", max_tokens=lengths.get(kind, 30)))
        for kind in kinds
    ]
    clients += [("raw", target(server, body)) for body in (b"{", b"x" * 200_000)]
    return asyncio.run(run_clients(clients))


def test_nothing_stays(server: ServerProcess) -> None:
    """Neither pages nor requests, threads, files or memory; and all who asked soundly were answered."""
    footprints = []
    for _ in range(3):
        outcomes = fire(server)
        for outcome in outcomes:
            if outcome.kind == "persistent":
                assert (outcome.status, outcome.num_tokens) == (200, 30), outcome
            elif outcome.kind == "slow":
                assert outcome.is_whole, outcome
        assert [o.status for o in outcomes if o.kind == "raw"] == [400, 413]
        assert server.seconds_until_idle(20) is not None, server.metrics()
        footprints.append(server.footprint())
    assert footprints[2].num_files <= footprints[1].num_files
    # Threads that encode are at most 16 and one per core; they stay for the next ones.
    assert max(footprint.num_threads for footprint in footprints) < 40
    assert footprints[2].rss_mb < 1.05 * footprints[1].rss_mb
    assert server.metrics()["camelid_cancelled_total"] > 0


def test_a_burst_is_told_when_to_come_again(server: ServerProcess) -> None:
    outcomes = asyncio.run(run_clients([("whole", target(server)) for _ in range(80)]))
    assert {outcome.status for outcome in outcomes} == {200, 429}
    assert all(outcome.is_whole for outcome in outcomes)
    assert {outcome.retry_after for outcome in outcomes if outcome.status == 429} == {"2"}
    again = asyncio.run(run_clients([("persistent", target(server)) for _ in range(50)]))
    assert all(outcome.status == 200 for outcome in again)


def signalled(server: ServerProcess, number: signal.Signals, num_tokens: int) -> list[Outcome]:
    """Streams, and a signal once they run."""

    def send() -> None:
        while server.metrics()["camelid_running"] < 4:
            time.sleep(0.01)
        server.send_signal(number)

    threading.Thread(target=send, daemon=True).start()
    one = target(server, stream=True, max_tokens=num_tokens)
    return asyncio.run(run_clients([("stream", one)] * 6))


def test_killed_it_comes_back(server: ServerProcess) -> None:
    outcomes = signalled(server, signal.SIGKILL, 900)
    assert not any(outcome.is_whole for outcome in outcomes) and all(o.status != -1 for o in outcomes)
    assert server.wait(10) == -signal.SIGKILL
    server.start()
    (outcome,) = asyncio.run(run_clients([("whole", target(server))]))
    assert outcome.status == 200 and outcome.num_tokens == 30


def test_asked_to_stop_it_finishes_its_streams(server: ServerProcess) -> None:
    """Those that run and those that wait; then the process ends, and its log has no word of what was said."""
    outcomes = signalled(server, signal.SIGTERM, 100)
    assert all(outcome.is_whole and outcome.num_tokens >= 100 for outcome in outcomes), outcomes
    assert server.wait(20) in (0, -signal.SIGTERM)
    log = server.log_path.read_text(encoding="utf-8")
    assert '"event": "request"' in log and "plugh" not in log and "Traceback" not in log
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))


def test_who_reads_nothing_is_cut_off() -> None:
    """And the others are answered meanwhile."""
    endless = ScriptedEngine("hello ", is_endless=True, max_context=10**9)
    with serving(scripted(endless), Limits(stall_seconds=0.5)) as address:
        body = b'{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": true, "n": 100}'
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            idle.connect(("127.0.0.1", int(address.rpartition(":")[2])))
            idle.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode())
            idle.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            deadline = time.monotonic() + 30
            while endless.num_cancelled < 100 and time.monotonic() < deadline:
                short = {"model": "tiny", "prompt": "a", "max_tokens": 3}
                assert httpx.post(f"{address}/v1/completions", json=short, timeout=10).status_code == 200
            assert endless.num_cancelled == 100 and endless.num_running == 0
            metrics = httpx.get(f"{address}/metrics").text
    assert "camelid_stalled_readers_total 1.0" in metrics and "camelid_open_requests 0.0" in metrics


def test_more_open_requests_than_may_be() -> None:
    endless = ScriptedEngine("hello ", is_endless=True, max_context=10**9)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with (
        serving(scripted(endless), Limits(max_open=1)) as address,
        httpx.stream("POST", f"{address}{CHAT}", json=body) as first,
    ):
        assert first.status_code == 200
        second = httpx.post(f"{address}{CHAT}", json=body)
        assert second.status_code == 429 and second.headers["retry-after"]
        assert second.json()["error"]["code"] == "queue_full"
        assert httpx.get(f"{address}/health").status_code == 200
        first.close()
