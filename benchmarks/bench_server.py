"""What HTTP costs: a streamed answer of `camelid serve` beside the same tokens out of the engine, mini Scout in bf16.

The server runs as people run it, in a process of its own. Its client, in another, counts events and does no more with
them: what a client makes of an answer is no cost of the server, and here it would take the same two cores.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from camelid.checkpoint import save_model
from measure import compare, race
from our_engine import make_engine, new_request, random_prompt, vocabulary
from peer import build_ours

NAME, PROMPT, TOKENS, ROUNDS, VOCAB = "mini-scout", 32, 256, 25, 8192
REQUIRED, AIM = 1 / 1.10, 1 / 1.03


class EngineStream:
    """Steps in a loop."""

    def __init__(self) -> None:
        self._engine, self._seed = make_engine(build_ours(NAME)), 0

    def prepare(self) -> None:
        """A new prompt, and its first token."""
        self._seed += 1
        prompt = random_prompt(PROMPT, self._seed, VOCAB)
        self._engine.add(new_request(prompt, TOKENS + 1, logit_bias=tuple(_never().items())))
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
            if found := re.search(r"http://([\w.]+):(\d+)", line):
                self._address = (found[1], int(found[2]))
            if "startup complete" in line:  # before it, uvicorn names an address that nobody answers
                break
        self._seed = 0

    def prepare(self) -> None:
        """A new prompt, and its first token."""
        self._seed += 1
        body = json.dumps({
            "model": NAME, "prompt": random_prompt(PROMPT, self._seed, VOCAB), "max_tokens": TOKENS + 1,
            "temperature": 0, "stream": True, "logit_bias": _never(),
        }).encode()  # fmt: skip
        head = f"POST /v1/completions HTTP/1.1\r\nHost: race\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        self._connection = socket.create_connection(self._address)
        self._connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        received = b""
        while b"data: {" not in received:
            received += self._connection.recv(2**16)
        # From here on the client is woken for many events at a time.
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 2**14)

    def __call__(self) -> int:
        with self._connection as connection:
            return sum(piece.count(b"data: {") for piece in iter(lambda: connection.recv(2**16), b""))

    def close(self) -> None:
        """Ends the server."""
        self._server.terminate()
        self._server.wait()
        self._folder.cleanup()


def _never() -> dict[int, float]:
    """Special tokens would end the server's answer, or come without text."""
    return dict.fromkeys(range(vocabulary(VOCAB).num_base_tokens, VOCAB), -100.0)


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
