"""What people wait for before anything is computed: `camelid --help`, and `camelid inspect` of all 48 layers of Scout.

Headers alone are read: the shards' weights are holes in their files.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from camelid.checkpoint.hf_config import model_files
from camelid.model import Llama4, preset
from measure import RESULTS_DIR

NUM_SHARDS, ROUNDS = 50, 5
REQUIRED_SECONDS = {"inspect": 2.0, "help": 0.3}


def write_headers(directory: Path) -> int:
    """A folder as the release has it, 217 GB of which nothing but headers takes room; returns its apparent size."""
    config = preset("scout")
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Llama4(config).state_dict().items()}
    names, total, weight_map = list(shapes), 0, {}
    for shard in range(NUM_SHARDS):
        header, offset = {}, 0
        file = f"model-{shard + 1:05d}-of-{NUM_SHARDS:05d}.safetensors"
        for name in names[shard::NUM_SHARDS]:
            size = 2 * torch.Size(shapes[name]).numel()
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [offset, offset + size]}
            weight_map[name] = file
            offset += size
        encoded = json.dumps(header).encode()
        with (directory / file).open("wb") as stream:
            stream.write(len(encoded).to_bytes(8, "little") + encoded)
            stream.truncate(8 + len(encoded) + offset)
        total += offset
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for name, text in model_files(config, 2048).items():
        (directory / name).write_text(text, encoding="utf-8")
    return total


def run_command(*words: str) -> tuple[list[float], str]:
    """Seconds of whole commands, Python's start and all imports included, and what the last one printed."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        command = [sys.executable, "-m", "camelid.cli.main", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - began)
    return seconds, done.stdout


def main() -> None:
    """Times both, and keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        total = write_headers(Path(folder))
        inspect_seconds, printed = run_command("inspect", folder)
    print(printed)
    keep("inspect", inspect_seconds, gigabytes=total / 1e9)
    keep("help", run_command("--help")[0])


def keep(name: str, seconds: list[float], **facts: float) -> None:
    """Says how long it took, and writes results/<name>.json."""
    median, required = statistics.median(seconds), REQUIRED_SECONDS[name]
    print(f"{name}: {median:.2f} s (required {required:g}: {'met' if median < required else 'MISSED'})")
    result = {"schema": "benchmark/1", "name": name, **facts, "seconds": seconds}
    (RESULTS_DIR / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
