"""Converting a checkpoint larger than the memory allowed, against a plain copy of its files.

13 GB of Scout-shaped weights (three layers) go from Hugging Face's layout into Hugging Face's and into Meta's, in
a process whose memory may grow by no more than 1 GB after its imports; the largest tensor alone has 2.7.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from camelid.checkpoint import open_model, write_hf, write_meta
from measure import compare
from real_shape import write_real_shape

NUM_LAYERS, ROUNDS = 3, 3
REQUIRED, AIM = 0.7, 0.9
ALLOWED_BYTES = 10**9


def forget(directory: Path) -> None:
    """Drops the folder's files from the page cache, so that the next reader reads the disk."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(source: Path, destination: Path) -> None:
    """What the disk can do: every file read once and written once, in large pieces, to the end."""
    destination.mkdir()
    for path in source.iterdir():
        with (
            path.open("rb", buffering=0) as reader,
            (destination / path.name).open("wb", buffering=0) as writer,
        ):
            shutil.copyfileobj(reader, writer, 1 << 24)
            os.fsync(writer.fileno())


def convert(source: Path, destination: Path, ranks: int | None) -> dict[str, float]:
    """Converts within the limit; returns seconds and gigabytes."""
    model = open_model(source)
    largest = max(tensor.nbytes for tensor in model.tensors.values())
    limit = _status("VmData") + ALLOWED_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    began = time.perf_counter()
    if ranks is None:
        write_hf(model, destination)
    else:
        write_meta(model, destination, ranks=ranks)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "gigabytes": model.nbytes / 1e9,
        "largest_tensor_gb": largest / 1e9,
        "allowed_gb": ALLOWED_BYTES / 1e9,
    }


def _status(field: str) -> int:
    """Bytes, from what Linux says about this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


def in_process(function: Any, *arguments: Any) -> Any:
    """Its result, from a process of its own, whose limit and peak are its own too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Races the copy and each conversion in turn."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("CAMELID_BENCH_DIR")) as folder:
        source, out = Path(folder) / "source", Path(folder) / "out"
        print(f"writing {NUM_LAYERS} layers of Scout's shape", flush=True)
        write_real_shape(source, NUM_LAYERS)
        runs: dict[str, list[Any]] = {"copy": [], "hf": [], "meta": []}
        for _ in range(ROUNDS):
            for name, run in (
                ("copy", partial(timed_copy, source, out)),
                ("hf", partial(in_process, convert, source, out, None)),
                ("meta", partial(in_process, convert, source, out, 2)),
            ):
                forget(source)
                runs[name].append(run())
                shutil.rmtree(out)
                print(name, runs[name][-1], flush=True)
    for name, what in (("hf", "Hugging Face to Hugging Face"), ("meta", "Hugging Face to Meta, two ranks")):
        facts = {key: value for key, value in runs[name][0].items() if key != "seconds"}
        compare(
            f"convert-{name}", "s", runs["copy"], [run["seconds"] for run in runs[name]],
            required=REQUIRED, aim=AIM, what=f"{what}; peer: a copy of the same files", **facts,
        )  # fmt: skip


def timed_copy(source: Path, out: Path) -> float:
    """Seconds of a copy."""
    began = time.perf_counter()
    copy(source, out)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
