"""A Scout-shaped model of four layers, 17.7 GB of weights, answers in a process that may hold 6 GB.

It is opened, planned and asked for a few tokens; the estimate stands beside what was measured.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from camelid.checkpoint import open_model
from camelid.checkpoint.streaming import load_streamed, plan_stream
from camelid.model import KVCache
from camelid.model.streamed_experts import StreamedExperts
from measure import RESULTS_DIR
from real_shape import write_real_shape

NUM_LAYERS, NUM_TOKENS, LIMIT_BYTES, CACHE_BYTES = 4, 12, 6 * 10**9, 5 * 10**9


@torch.inference_mode()
def answer(directory: Path) -> dict[str, Any]:
    """Decodes some tokens within the limit."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit = int(fields["VmData"].split()[0]) * 1024 + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    model = open_model(directory)
    plan = plan_stream(model, CACHE_BYTES)
    print(plan, flush=True)
    llama = load_streamed(model, plan)
    experts = next(module for module in llama.modules() if isinstance(module, StreamedExperts))
    cache, seconds, token = KVCache(model.config.text), [], torch.tensor([1])
    for _ in range(NUM_TOKENS):
        began = time.perf_counter()
        token = llama.logits(llama(token, cache=cache).hidden[-1:]).argmax(-1)
        seconds.append(time.perf_counter() - began)
    return {
        "gigabytes_on_disk": model.nbytes / 1e9,
        "private_memory_allowed_gb": LIMIT_BYTES / 1e9,
        "estimated_seconds_per_token": plan.seconds_per_token,
        "seconds_per_token": seconds,
        "experts_read": experts.cache.num_reads,
        "experts_found_in_memory": experts.cache.num_hits,
    }


def main() -> None:
    """Writes the model, asks it, keeps the numbers."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("CAMELID_BENCH_DIR")) as folder:
        directory = Path(folder) / "model"
        write_real_shape(directory, NUM_LAYERS)
        for path in directory.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result = pool.apply(answer, (directory,))
    print(json.dumps(result, indent=2))
    text = json.dumps({"schema": "benchmark/1", "name": "streaming"} | result, indent=2) + "\n"
    (RESULTS_DIR / "streaming.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
