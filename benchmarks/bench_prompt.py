"""A prompt of 2,048 tokens to its first answer token, in bf16, through the engine; against llama.cpp and vLLM."""

from __future__ import annotations

import statistics
from functools import partial
from itertools import product

from llama_cpp_peer import LlamaCpp
from measure import compare, race
from our_engine import make_engine, new_request, random_prompt
from peer import build_ours
from vllm_peer import HAS_VLLM, Vllm

MODELS = ("mini-scout", "mini-maverick")
LENGTH, ROUNDS = 2048, 9
VOCAB = 8192


class OurPrompt:
    """A new prompt every time, so that none is known already."""

    def __init__(self, name: str) -> None:
        self._engine, self._seed = make_engine(build_ours(name)), 0

    def prepare(self) -> None:
        """Random tokens."""
        self._seed += 1
        self._engine.add(new_request(random_prompt(LENGTH, self._seed, VOCAB), 1))

    def __call__(self) -> int:
        while True:
            if events := self._engine.step():
                return events[0].token_id


class TheirPrompt:
    """One call with all tokens; it divides them as it likes."""

    def __init__(self, name: str) -> None:
        self._peer, self._seed = LlamaCpp(build_ours(name), "bf16"), 0

    def prepare(self) -> None:
        """The same tokens."""
        self._seed += 1
        self._peer.clear()
        prompt = random_prompt(LENGTH, self._seed, VOCAB)
        self._rows = [(token, index, 0, index == LENGTH - 1) for index, token in enumerate(prompt)]

    def __call__(self) -> int:
        self._peer.decode(self._rows)
        return int(self._peer.logits().argmax())


class VllmPrompt:
    """The same through vLLM's engine."""

    def __init__(self, name: str) -> None:
        self._peer, self._seed = Vllm(name), 0

    def prepare(self) -> None:
        """The same tokens."""
        self._seed += 1
        self._peer.add([(random_prompt(LENGTH, self._seed, VOCAB), 1)])

    def __call__(self) -> int:
        return self._peer.step(1)


def main() -> None:
    """Both models, against both peers."""
    for name, (label, build, required, aim) in product(MODELS, PEERS):
        peer, ours = race(partial(build, name), partial(OurPrompt, name), ROUNDS)
        compare(
            f"prompt-{name}-{label}", "s", peer.seconds, ours.seconds, required=required, aim=aim,
            what=f"a prompt to its first token through the engine; peer: {label}, bf16", preset=name, tokens=LENGTH,
            our_tokens_per_second=round(LENGTH / statistics.median(ours.seconds)),
        )  # fmt: skip


PEERS = [("llama.cpp", TheirPrompt, 1.2, 2.0)] + [("vllm", VllmPrompt, 0.9, 1.2)] * HAS_VLLM


if __name__ == "__main__":
    main()
