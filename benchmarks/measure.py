"""Peer and ours in turn, in one process: on a shared machine only such ratios mean anything."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["compare", "record", "time_in_turn"]

RESULTS_DIR = Path(__file__).parent / "results"


def time_in_turn(
    peer: Callable[[], object], ours: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of peer, ours, peer, ours, …, after one untimed round of each."""
    peer_seconds, our_seconds = [], []
    for index in range(rounds + 1):
        for run, seconds in ((peer, peer_seconds), (ours, our_seconds)):
            began = time.perf_counter()
            run()
            if index:
                seconds.append(time.perf_counter() - began)
    return peer_seconds, our_seconds


def compare(
    name: str, unit: str, peer: list[float], ours: list[float], *, required_ratio: float, **facts: Any
) -> float:
    """Prints `peer … ours … ratio …`, keeps it as JSON, and returns the median of the rounds' ratios.

    Less is better in `unit` (seconds, GB). `facts` describe what was run.
    """
    ratio = statistics.median(p / o for p, o in zip(peer, ours, strict=True))
    verdict = "" if ratio >= required_ratio else "  MISSED"
    print(
        f"{name}: peer {statistics.median(peer):.3g} {unit}  ours {statistics.median(ours):.3g} {unit}  "
        f"ratio {ratio:.1f}  (required {required_ratio:g}){verdict}",
        flush=True,
    )
    values = {"unit": unit, "peer": peer, "ours": ours, "ratio": ratio, "required_ratio": required_ratio}
    record(name, values | facts)
    return ratio


def record(name: str, values: dict[str, Any]) -> None:
    """Writes results/<name>.json: the values, when, on what machine, with which versions."""
    about = {
        "schema": "benchmark/1",
        "name": name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "has_avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        },
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in ("torch", "transformers")}
        | {"python": platform.python_version()},
    }
    RESULTS_DIR.mkdir(exist_ok=True)
    (RESULTS_DIR / f"{name}.json").write_text(json.dumps(about | values, indent=2) + "\n")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        fields = dict(
            line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line
        )
        return " ".join(
            [
                next(
                    (value.strip() for key, value in fields.items() if key.startswith("model name")),
                    "unknown",
                ),
                *(
                    f"{key.strip()} {value.strip()}"
                    for key, value in fields.items()
                    if key.strip() in ("cpu family", "model")
                ),
            ]
        )
    return platform.processor()
