"""32 streams of mixed lengths: generated tokens per second, in bf16, through the engine; against llama.cpp and vLLM.

llama.cpp gets what its server does with parallel slots, without its HTTP: prompts are read as sequences end, and one
`llama_decode` takes a token of every sequence that runs.
"""

from __future__ import annotations

import statistics
from functools import partial
from itertools import product

import torch

from llama_cpp_peer import LlamaCpp
from measure import compare, race
from our_engine import make_engine, new_request, random_prompt
from peer import build_ours
from vllm_peer import HAS_VLLM, Vllm

MODELS = ("mini-scout", "mini-maverick")
STREAMS, REQUESTS, ROUNDS = 32, 64, 3
CONTEXT, VOCAB = 1024, 8192


def requests(seed: int) -> list[tuple[list[int], int]]:
    """Prompts of 16 to 512 tokens, answers of 16 to 256, evenly spread on a logarithmic scale."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (16 * 32 ** torch.rand(REQUESTS, generator=generator)).int().tolist()
    answers = (16 * 16 ** torch.rand(REQUESTS, generator=generator)).int().tolist()
    return [
        (random_prompt(length, 1000 * seed + index, VOCAB), answer)
        for index, (length, answer) in enumerate(zip(lengths, answers, strict=True))
    ]


class OurStreams:
    """All requests at once; the engine runs as many as it may."""

    def __init__(self, name: str) -> None:
        self._engine, self._seed = make_engine(build_ours(name), context=CONTEXT, num_sequences=STREAMS), 0

    def prepare(self) -> None:
        """New prompts."""
        self._seed += 1
        for prompt, answer in requests(self._seed):
            self._engine.add(new_request(prompt, answer))

    def __call__(self) -> int:
        count = 0
        while self._engine.has_work:
            count += len(self._engine.step())
        return count


class TheirStreams:
    """Slots, filled again as sequences end; up to 2,048 tokens of prompts beside the running ones."""

    def __init__(self, name: str) -> None:
        self._peer, self._seed = (
            LlamaCpp(build_ours(name), "bf16", num_sequences=STREAMS, context=CONTEXT),
            0,
        )

    def prepare(self) -> None:
        """The same prompts."""
        self._seed += 1
        self._peer.clear()
        self._waiting = list(reversed(requests(self._seed)))

    def __call__(self) -> int:
        count, positions, left, last = 0, {}, {}, {}
        while self._waiting or left:
            rows = [(last[slot], positions[slot], slot, True) for slot in left]
            fresh = {}
            for slot in range(STREAMS):
                if slot in left or not self._waiting:
                    continue
                prompt, answer = self._waiting[-1]
                if len(rows) + len(prompt) > 2048:
                    break
                self._waiting.pop()
                rows += [(token, index, slot, index == len(prompt) - 1) for index, token in enumerate(prompt)]
                fresh[slot], positions[slot] = answer, len(prompt) - 1
            self._peer.decode(rows)
            left |= fresh
            for row, (_, _, slot, is_wanted) in enumerate(rows):
                if not is_wanted:
                    continue
                last[slot] = int(self._peer.logits(row).argmax())
                count, left[slot], positions[slot] = count + 1, left[slot] - 1, positions[slot] + 1
                if not left[slot]:
                    del left[slot]
                    self._peer.forget(slot)
        return count


class VllmStreams:
    """The same through vLLM's engine."""

    def __init__(self, name: str) -> None:
        self._peer, self._seed = Vllm(name, num_sequences=STREAMS, context=CONTEXT), 0

    def prepare(self) -> None:
        """The same prompts."""
        self._seed += 1
        self._peer.add(requests(self._seed))

    def __call__(self) -> int:
        return self._peer.step(1 << 30)


PEERS = [("llama.cpp", TheirStreams, 1.5, 3.0)] + [("vllm", VllmStreams, 1.0, 2.0)] * HAS_VLLM


def main() -> None:
    """Both models, against both peers."""
    for name, (label, build, required, aim) in product(MODELS, PEERS):
        peer, ours = race(partial(build, name), partial(OurStreams, name), ROUNDS)
        assert peer.first_result == ours.first_result, (peer.first_result, ours.first_result)
        compare(
            f"streams-{name}-{label}", "s", peer.seconds, ours.seconds, required=required, aim=aim,
            what=f"{REQUESTS} requests of mixed lengths over {STREAMS} streams; peer: {label}, bf16", preset=name,
            first_round_tokens=ours.first_result,
            our_first_tokens_per_second=round(ours.first_result / statistics.median(ours.seconds)),
        )  # fmt: skip


if __name__ == "__main__":
    main()
