"""Peer and ours in turn, each in a process of its own: on a shared machine only such ratios mean anything."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

__all__ = ["Side", "compare", "machine", "race"]

RESULTS_DIR = Path(__file__).parent / "results"
PAUSE = 0.05  # s; OpenMP's threads spin for some milliseconds after their work, on the other side's processor


@dataclass(frozen=True)
class Side:
    """What one side did: seconds of every timed round, the first result, and its process's peak memory in GB."""

    seconds: list[float]
    first_result: Any
    peak_gb: float


def race(
    peer: Callable[[], Callable[[], Any]], ours: Callable[[], Callable[[], Any]], rounds: int
) -> tuple[Side, Side]:
    """Runs peer, ours, peer, ours, …, one untimed round first.

    Both arguments build what a round then calls. What is built may have methods: `prepare` is called before every
    round, untimed, and `close` after the last one.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for build in (peer, ours):
        pipe, far_end = context.Pipe()
        process = context.Process(target=_serve, args=(build, far_end), daemon=True)
        process.start()
        far_end.close()  # so that a worker that dies ends `recv` instead of hanging it
        pipes.append(pipe)
        processes.append(process)
    timings: list[list[float]] = [[], []]
    first_results: list[Any] = [None, None]
    for index in range(rounds + 1):
        for side, pipe in enumerate(pipes):
            time.sleep(PAUSE)
            pipe.send("run")
            seconds, result = pipe.recv()
            if index == 0:
                first_results[side] = result
            else:
                timings[side].append(seconds)
    peaks = []
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("stop")
        peaks.append(pipe.recv())
        process.join()
    return Side(timings[0], first_results[0], peaks[0]), Side(timings[1], first_results[1], peaks[1])


def _serve(build: Callable[[], Callable[[], Any]], pipe: Connection) -> None:
    run = build()
    prepare = getattr(run, "prepare", lambda: None)
    while pipe.recv() == "run":
        prepare()
        began = time.perf_counter()
        result = run()
        pipe.send((time.perf_counter() - began, result))
    getattr(run, "close", lambda: None)()
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def compare(
    name: str, unit: str, peer: list[float], ours: list[float], *, required: float, aim: float, **facts: Any
) -> None:
    """Prints `peer … ours … ratio …` and writes results/<name>.json, with `facts` on what was run.

    Less is better in `unit` (seconds, GB); the ratio is the median of the rounds' ratios.
    """
    ratio = statistics.median(p / o for p, o in zip(peer, ours, strict=True))
    verdict = "met" if ratio >= required else "MISSED"
    print(
        f"{name}: peer {statistics.median(peer):.3g} {unit}  ours {statistics.median(ours):.3g} {unit}  "
        f"ratio {ratio:.2f}  (required {required:g}: {verdict}; aim {aim:g})",
        flush=True,
    )
    result = {
        "schema": "benchmark/1",
        "name": name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **facts,
        "unit": unit,
        "peer": [round(value, 4) for value in peer],
        "ours": [round(value, 4) for value in ours],
        "ratio": round(ratio, 3),
        "required_ratio": required,
        "aimed_ratio": aim,
        "machine": machine(),
        "versions": {package: version(package) for package in ("torch", "transformers")}
        | {"python": platform.python_version()},
    }
    RESULTS_DIR.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    (RESULTS_DIR / f"{name}.json").write_text(text, encoding="utf-8")


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "torch_threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    """Model name, and what tells generations apart where a virtual machine hides the exact model."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = (line.partition(":") for line in info.read_text().splitlines())
    fields = {key.strip(): value.strip() for key, _, value in lines}
    numbers = f"family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    extras = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    return " ".join([fields.get("model name", platform.machine()), numbers, *extras])
