"""A prompt of 2,048 tokens to its first answer token, in bf16, through the engine; against llama.cpp."""

from __future__ import annotations

import statistics
from functools import partial

from llama_cpp_peer import LlamaCpp
from measure import compare, race
from our_engine import make_engine, new_request, random_prompt
from peer import build_ours

MODELS = ("mini-scout", "mini-maverick")
LENGTH, ROUNDS, REQUIRED, AIM = 2048, 9, 1.2, 2.0
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


def main() -> None:
    """Both models."""
    for name in MODELS:
        peer, ours = race(partial(TheirPrompt, name), partial(OurPrompt, name), ROUNDS)
        compare(
            f"prompt-{name}-llama.cpp", "s", peer.seconds, ours.seconds, required=REQUIRED, aim=AIM,
            what="a prompt to its first token through the engine; peer: llama.cpp, bf16", preset=name, tokens=LENGTH,
            our_tokens_per_second=round(LENGTH / statistics.median(ours.seconds)),
            is_first_token_same=peer.first_result == ours.first_result,
        )  # fmt: skip


if __name__ == "__main__":
    main()
