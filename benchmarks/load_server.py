"""The server under fire: streams by the hundred, clients that hang up, read slowly or not at all, bursts, kill -9.

Loopback only. Writes results/load-server.json; `--write-docs` puts its numbers into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from camelid.infer import locate
from camelid.testing.load_clients import ClientKind, Outcome, Target, run_clients
from camelid.testing.server_process import ServerProcess
from measure import RESULTS_DIR, machine

CHAT = "/v1/chat/completions"
RESULT = RESULTS_DIR / "load-server.json"
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
START, END = "<!-- numbers of benchmarks/load_server.py -->", "<!-- end of the numbers -->"
SECRET = "xyzzy-plugh"  # in every prompt; the log must never have it
# The stop tokens of the model that ships: how long answers are must not hang on what they say.
NEVER_ENDS = {"4993": -100, "4999": -100, "5000": -100}
MAX_RUNNING, MAX_WAITING = 64, 256
IDLE_SECONDS = 12
# Shares of the clients in a round; the rest reads as fast as it can.
SHARES: dict[ClientKind, float] = {
    "whole": 0.10, "hang up": 0.15, "hang up early": 0.05, "slow": 0.05, "stalled": 0.03, "raw": 0.10
}  # fmt: skip


def picture() -> str:
    """As a data URL."""
    file = io.BytesIO()
    Image.effect_noise((48, 48), 50).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def question(chance: random.Random, tokens: int, *, is_stream: bool) -> dict[str, Any]:
    """Short and long prompts, some that begin alike, some with a picture."""
    text = " ".join(
        chance.choices(["camel", "desert", "seven", "is", "the", "water?"], k=chance.randint(3, 120))
    )
    content: Any = f"{SECRET} {text}"
    if chance.random() < 0.1:
        content = [{"type": "image_url", "image_url": {"url": picture()}}, {"type": "text", "text": content}]
    system = {"role": "system", "content": f"{SECRET} " + "Answer like a patient camel. " * 8}
    messages = [{"role": "user", "content": content}]
    return {
        "model": "served", "messages": [system, *messages] if chance.random() < 0.5 else messages,
        "max_tokens": chance.randint(tokens // 2, tokens), "stream": is_stream, "seed": chance.getrandbits(30),
        "logit_bias": NEVER_ENDS,
    }  # fmt: skip


def broken(chance: random.Random, tokens: int) -> tuple[Any, int]:
    """A request that must be refused, and the status."""
    good = question(chance, tokens, is_stream=False)
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    choices: list[tuple[Any, int]] = [
        (b'{"model": "served", "messages": [', 400),
        (b"\xff\xfe\x00", 400),
        (b"[" * 20_000, 400),
        (good | {"model": "nobody"}, 404),
        (good | {"temperature": 9}, 400),
        (good | {"messages": [{"role": "user", "content": [url]}]}, 400),
        (good | {"messages": [{"role": "user", "content": "camel " * 20_000}]}, 400),
        (b'"' + b"x" * 3 * 2**20 + b'"', 413),
    ]
    return chance.choice(choices)


def round_of_clients(
    server: ServerProcess, num_clients: int, tokens: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """One round's numbers, and what went wrong in it."""
    chance = random.Random(seed)
    kinds: list[ClientKind] = [
        kind for kind, share in SHARES.items() for _ in range(round(share * num_clients))
    ]
    kinds += ["stream"] * (num_clients - len(kinds))
    chance.shuffle(kinds)
    clients, wanted = [], []
    for kind in kinds:
        body, status = (
            broken(chance, tokens)
            if kind == "raw"
            else (question(chance, tokens, is_stream=kind != "whole"), 200)
        )
        clients.append((kind, Target(server.port, CHAT, body)))
        wanted.append(status)
    began = time.perf_counter()
    outcomes = asyncio.run(run_clients(clients))
    seconds = time.perf_counter() - began
    idle = server.seconds_until_idle()
    faults = [
        f"{outcome.kind}: {outcome.status} instead of {status} {outcome.error}"
        for outcome, status in zip(outcomes, wanted, strict=True)
        if outcome.kind not in ("hang up early", "stalled")
        and (outcome.status != status or (outcome.kind != "hang up" and not outcome.is_whole))
    ]
    if idle is None:
        faults.append(f"not idle: {server.metrics()}")
    return summary(server, outcomes, seconds) | {"seconds_until_idle": round(idle or -1, 2)}, faults


def summary(server: ServerProcess, outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    """What a table shows."""
    first = sorted(o.first_seconds for o in outcomes if o.kind == "stream" and o.first_seconds is not None)
    now, footprint = server.metrics(), server.footprint()
    tokens = sum(outcome.num_tokens for outcome in outcomes)
    return {
        "clients": dict(Counter(outcome.kind for outcome in outcomes)),
        "statuses": dict(sorted(Counter(str(outcome.status) for outcome in outcomes).items())),
        "seconds": round(seconds, 2),
        "tokens_read_per_second": round(tokens / seconds, 1),
        "first_token_seconds_median": round(statistics.median(first), 3) if first else None,
        "first_token_seconds_p99": round(first[int(0.99 * (len(first) - 1))], 3) if first else None,
        "rss_mb": round(footprint.rss_mb, 1),
        "threads": footprint.num_threads,
        "files": footprint.num_files,
        "pages_free": now["camelid_pages_free"],
        "pages_known": now["camelid_pages_known"],
        "pages_total": now["camelid_pages_total"],
        "cancelled": now["camelid_cancelled_total"],
        "preempted": now["camelid_preempted_total"],
    }


def burst(server: ServerProcess, num_clients: int, tokens: int) -> tuple[dict[str, Any], list[str]]:
    """More at once than run and wait: 429 with Retry-After, and whoever obeys it is answered in the end."""
    chance = random.Random(1)
    clients: list[tuple[ClientKind, Target]] = [
        ("persistent", Target(server.port, CHAT, question(chance, tokens, is_stream=False)))
        for _ in range(num_clients)
    ]
    began = time.perf_counter()
    outcomes = asyncio.run(run_clients(clients))
    seconds = time.perf_counter() - began
    idle = server.seconds_until_idle()
    faults = [f"burst: {o.status} {o.error}" for o in outcomes if o.status != 200 or not o.is_whole]
    if idle is None or not sum(outcome.num_retries for outcome in outcomes):
        faults.append("burst: nobody was told to come again, or the server did not come to rest")
    refused = sum(outcome.num_retries > 0 for outcome in outcomes)
    retries = sum(outcome.num_retries for outcome in outcomes)
    return {
        "clients": num_clients, "told_to_come_again": refused, "times_told": retries,
        "answered": sum(outcome.status == 200 for outcome in outcomes), "seconds": round(seconds, 2),
    }, faults  # fmt: skip


def interrupted(server: ServerProcess, number: signal.Signals, num_clients: int) -> list[Outcome]:
    """Streams, and a signal in the middle of them."""
    chance = random.Random(2)
    clients: list[tuple[ClientKind, Target]] = [
        ("stream", Target(server.port, CHAT, question(chance, 100, is_stream=True) | {"max_tokens": 300}))
        for _ in range(num_clients)
    ]

    def when_running() -> None:
        while server.metrics()["camelid_generated_tokens_total"] < before + 5 * num_clients:
            time.sleep(0.02)
        server.send_signal(number)

    before = server.metrics()["camelid_generated_tokens_total"]
    threading.Thread(target=when_running, daemon=True).start()
    return asyncio.run(run_clients(clients))


def measure(num_clients: int, tokens: int, num_rounds: int) -> dict[str, Any]:
    """Everything; raises SystemExit with what went wrong."""
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        # A cache so small that the warm-up touches all of it: what grows afterwards is a leak.
        flags = ["--name", "served", "--max-body-mb", "2", "--max-context", "2048"]
        flags += ["--max-running", str(MAX_RUNNING), "--max-waiting", str(MAX_WAITING), "--cache-gb", "0.035"]
        with ServerProcess(log, *flags, model=str(locate.SHIPPED_MODEL)) as server:
            rounds, rested = [], []
            for index in range(num_rounds + 1):
                result, wrong = round_of_clients(server, num_clients, tokens, seed=index)
                print(f"round {index}: {result}", flush=True)
                if index in (0, num_rounds):
                    time.sleep(IDLE_SECONDS)
                    rested.append(server.footprint())
                rounds.append(result)
                faults += wrong
            crowd, wrong = burst(server, 2 * (MAX_RUNNING + MAX_WAITING), tokens // 4)
            print(f"burst: {crowd}", flush=True)
            faults += wrong
            killed = interrupted(server, signal.SIGKILL, 50)
            server.wait(30)
            restart_seconds = server.start()
            after, wrong = round_of_clients(server, 20, tokens, seed=99)
            faults += wrong
            stopped = interrupted(server, signal.SIGTERM, 50)
            status = server.wait(90)
        if SECRET in log.read_text(encoding="utf-8", errors="replace"):
            faults.append("the log has words of a prompt")
    if not all(outcome.is_whole for outcome in stopped):
        faults.append(f"SIGTERM cut {sum(not outcome.is_whole for outcome in stopped)} answers")
    if any(outcome.is_whole or outcome.status == -1 for outcome in killed):
        faults.append("kill -9 came too late, or left a client waiting")
    growth = rested[1].rss_mb - rested[0].rss_mb
    if growth > 0.05 * rested[0].rss_mb:
        faults.append(f"memory grew by {growth:.1f} MB in {num_rounds} rounds")
    if rested[1].num_threads > rested[0].num_threads or rested[1].num_files > rested[0].num_files:
        faults.append(f"threads or files stayed: {rested}")
    if faults:
        raise SystemExit("\n".join(["what went wrong:", *sorted(Counter(faults))]))
    return {
        "schema": "benchmark/1",
        "name": "load-server",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "clients": num_clients,
        "max_tokens": tokens,
        "max_running": MAX_RUNNING,
        "max_waiting": MAX_WAITING,
        "rounds": rounds,
        "rested": [asdict(one) for one in rested],
        "burst": crowd,
        "kill": {
            "streams_cut": len(killed),
            "restart_seconds": round(restart_seconds, 2),
            "first_round_after": after,
        },
        "sigterm": {"streams_finished": len(stopped), "exit_status": status},
        "machine": machine(),
    }


def table(result: dict[str, Any]) -> str:
    """Markdown, from the JSON alone."""
    rounds, crowd, kill = result["rounds"], result["burst"], result["kill"]
    rows = {
        "clients at once": [sum(one["clients"].values()) for one in rounds],
        "answers by status": [", ".join(f"{n}× {s}" for s, n in one["statuses"].items()) for one in rounds],
        "seconds": [one["seconds"] for one in rounds],
        "tokens read per second": [one["tokens_read_per_second"] for one in rounds],
        "first token, median / p99, s": [
            f"{one['first_token_seconds_median']} / {one['first_token_seconds_p99']}" for one in rounds
        ],
        "seconds until nothing is held": [one["seconds_until_idle"] for one in rounds],
        "pages free of total": [f"{one['pages_free']:.0f} of {one['pages_total']:.0f}" for one in rounds],
        "resident memory, MB": [one["rss_mb"] for one in rounds],
        "threads, open files": [f"{one['threads']}, {one['files']}" for one in rounds],
    }
    heads = ["warm-up", *(f"round {index}" for index in range(1, len(rounds)))]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(rounds) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(map(str, cells)) + " |" for name, cells in rows.items()]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(rounds[0]["clients"].items()))
    before, after = result["rested"]
    facts = [
        f"Measured on {result['date']}, {result['machine']['cores']} cores shared by server and clients. "
        f"Each round: {kinds}; answers of at most {result['max_tokens']} tokens. "
        "Status 0 is a client that left without one.",
        "",
        *lines,
        "",
        f"- **Burst.** {crowd['clients']} requests at once, where {result['max_running']} run and "
        f"{result['max_waiting']} wait: {crowd['told_to_come_again']} were told 429 with `Retry-After`, "
        f"{crowd['times_told']} times in all, and all {crowd['answered']} had their answers "
        f"after {crowd['seconds']} s.",
        f"- **kill -9** during {kill['streams_cut']} streams: every client saw its connection end at once; "
        f"{kill['restart_seconds']} s after the restart the server answered again.",
        f"- **SIGTERM** during {result['sigterm']['streams_finished']} streams: "
        f"all {result['sigterm']['streams_finished']} were finished, then the process ended.",
        f"- **At rest**, {IDLE_SECONDS} s after the warm-up and after the last round: {held(before)}; {held(after)}.",
    ]
    return "\n".join(facts)


def held(footprint: dict[str, Any]) -> str:
    """In words."""
    return f"{footprint['rss_mb']:.1f} MB, {footprint['num_threads']} threads, {footprint['num_files']} open files"


def with_numbers(page: str, result: dict[str, Any]) -> str:
    """The page with the numbers between its two marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(result)}\n{END}{after}"


def main() -> None:
    """Measures, or only writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--write-docs", action="store_true", help="no measuring: docs/reliability.md from the JSON"
    )
    options = parser.parse_args()
    if not options.write_docs:
        result = measure(options.clients, options.tokens, options.rounds)
        RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(with_numbers(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
