"""`camelid inspect` of all 48 layers of Scout, from headers alone: the shards' weights are holes in their files."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from camelid.checkpoint.hf_config import model_files
from camelid.model import Llama4, preset
from measure import RESULTS_DIR

NUM_SHARDS, ROUNDS, REQUIRED_SECONDS = 50, 5, 2.0


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


def main() -> None:
    """Times the whole command, Python's start and torch's import included."""
    with tempfile.TemporaryDirectory() as folder:
        total = write_headers(Path(folder))
        seconds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "camelid.cli.main", "inspect", folder],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds.append(time.perf_counter() - began)
    print(done.stdout)
    median = sorted(seconds)[ROUNDS // 2]
    verdict = "met" if median < REQUIRED_SECONDS else "MISSED"
    print(f"inspect of {total / 1e9:.0f} GB: {median:.2f} s (required {REQUIRED_SECONDS:g}: {verdict})")
    result = {"schema": "benchmark/1", "name": "inspect", "gigabytes": total / 1e9, "seconds": seconds}
    (RESULTS_DIR / "inspect.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
