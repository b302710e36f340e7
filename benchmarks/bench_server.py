"""What HTTP costs: a streamed answer of `camelid serve` beside the same tokens out of the engine, mini Scout in bf16.

The server runs as people run it, in a process of its own; its client reads every event in another.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import torch

from camelid.checkpoint import save_model
from measure import compare, race
from our_engine import make_engine, new_request, random_prompt, vocabulary
from peer import build_ours

NAME, PROMPT, TOKENS, ROUNDS, VOCAB = "mini-scout", 32, 256, 9, 8192
REQUIRED, AIM = 1 / 1.10, 1 / 1.03


class EngineStream:
    """Steps in a loop."""

    def __init__(self) -> None:
        self._engine, self._seed = make_engine(build_ours(NAME)), 0

    def prepare(self) -> None:
        """A new prompt, and its first token."""
        self._seed += 1
        self._engine.add(new_request(random_prompt(PROMPT, self._seed, VOCAB), TOKENS + 1))
        while not self._engine.step():
            pass

    def __call__(self) -> int:
        return sum(len(self._engine.step()) for _ in range(TOKENS))


class ServerStream:
    """Server-sent events of /v1/completions."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        tokenizer = vocabulary(VOCAB)
        save_model(build_ours(NAME), Path(self._folder.name), torch.bfloat16, tokenizer.num_special_tokens)
        tokenizer.save(Path(self._folder.name, "tokenizer.model"))
        self._never = {str(token_id): -100 for token_id in range(tokenizer.num_base_tokens, VOCAB)}
        command = [
            sys.executable,
            "-m",
            "camelid.cli.main",
            "serve",
            self._folder.name,
            "--port",
            "0",
            "--name",
            NAME,
        ]
        command += ["--max-context", "4096"]
        self._server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._server.stderr is not None
        for line in self._server.stderr:
            if found := re.search(r"http://[\w.:]+", line):
                self._client = httpx.Client(base_url=found[0], timeout=60)
                break
        self._seed = 0

    def prepare(self) -> None:
        """A new prompt, and its first token."""
        self._seed += 1
        body = {
            "model": NAME, "prompt": random_prompt(PROMPT, self._seed, VOCAB), "max_tokens": TOKENS + 1,
            "temperature": 0, "stream": True, "logit_bias": self._never,
        }  # fmt: skip
        request = self._client.build_request("POST", "/v1/completions", json=body)
        self._events = self._client.send(request, stream=True).iter_lines()
        while not next(self._events).startswith("data: {"):
            pass

    def __call__(self) -> int:
        return sum(line.startswith("data: {") for line in self._events)


def main() -> None:
    """The race; a ratio under one is what the server adds."""
    engine, server = race(EngineStream, ServerStream, ROUNDS)
    print(f"events of the first rounds: {engine.first_result} and {server.first_result}")
    compare(
        "server-overhead", "ms", [1e3 * s / TOKENS for s in engine.seconds],
        [1e3 * s / TOKENS for s in server.seconds], required=REQUIRED, aim=AIM, tokens=TOKENS, preset=NAME,
        what="a token of one stream over HTTP; peer: our engine without the server",
    )  # fmt: skip


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s")
