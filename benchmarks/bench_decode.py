"""One stream: tokens per second after a short prompt, against llama.cpp in three formats, vLLM and transformers.

Ours goes through the engine: scheduling, greedy sampling, and text. Of llama.cpp only `llama_decode` is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from transformers import DynamicCache

from llama_cpp_peer import LlamaCpp
from measure import compare, race
from our_engine import make_engine, new_request, random_prompt
from peer import build_ours, build_peer
from vllm_peer import HAS_VLLM, Vllm

MODELS = ("mini-scout", "mini-maverick")
PROMPT, TOKENS, ROUNDS = 32, 128, 9
FORMATS = {"bf16": None, "q8_0": 8, "q4_0": 4}
BOUNDS = {"bf16": (1.0, 1.5), "q8_0": (1.3, 2.0), "q4_0": (1.0, 1.6)}
VOCAB = 8192


class OurStream:
    """A prompt is read unseen; then every call generates the rest."""

    def __init__(self, name: str, bits: int | None) -> None:
        self._engine, self._seed = make_engine(build_ours(name), weight_bits=bits), 0

    def prepare(self) -> None:
        """A new prompt, and its first token."""
        self._seed += 1
        self._engine.add(new_request(random_prompt(PROMPT, self._seed, VOCAB), TOKENS + 1))
        while not self._engine.step():
            pass

    def __call__(self) -> list[int]:
        return [event.token_id for _ in range(TOKENS) for event in self._engine.step()]


class TheirStream:
    """The same; its tokens are the likeliest, so that experts vary as they do for us."""

    def __init__(self, name: str, kind: str) -> None:
        self._peer, self._seed = LlamaCpp(build_ours(name), kind), 0

    def prepare(self) -> None:
        """A new prompt."""
        self._seed += 1
        self._peer.clear()
        prompt = random_prompt(PROMPT, self._seed, VOCAB)
        self._peer.decode([(token, index, 0, index == PROMPT - 1) for index, token in enumerate(prompt)])

    def __call__(self) -> list[int]:
        tokens = []
        for index in range(TOKENS):
            tokens.append(int(self._peer.logits().argmax()))
            self._peer.decode([(tokens[-1], PROMPT + index, 0, True)])
        return tokens


class VllmStream:
    """The same through vLLM's engine."""

    def __init__(self, name: str) -> None:
        self._peer, self._seed = Vllm(name), 0

    def prepare(self) -> None:
        """A new prompt, and its first token."""
        self._seed += 1
        self._peer.add([(random_prompt(PROMPT, self._seed, VOCAB), TOKENS + 1)])
        self._peer.step(1)

    def __call__(self) -> list[int]:
        assert self._peer.step(TOKENS) == TOKENS
        return []


class TransformersStream:
    """Its own forward with its own cache."""

    def __init__(self, name: str) -> None:
        self._model, self._seed = build_peer(name).eval(), 0

    @torch.inference_mode()
    def prepare(self) -> None:
        """A new prompt."""
        self._seed += 1
        self._cache = DynamicCache(config=self._model.config)
        prompt = torch.tensor([random_prompt(PROMPT, self._seed, VOCAB)])
        self._next = self._forward(prompt)

    def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out = self._model(input_ids=tokens, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True)

    @torch.inference_mode()
    def __call__(self) -> list[int]:
        tokens = []
        for _ in range(TOKENS):
            tokens.append(int(self._next))
            self._next = self._forward(self._next)
        return tokens


def report(
    label: str, name: str, peer: Callable[[], object], bits: int | None, required: float, aim: float
) -> None:
    """One race."""
    theirs, ours = race(peer, partial(OurStream, name, bits), ROUNDS)  # type: ignore[arg-type]
    compare(
        f"decode-{name}-{label}", "ms", [1e3 * s / TOKENS for s in theirs.seconds],
        [1e3 * s / TOKENS for s in ours.seconds], required=required, aim=aim,
        what=f"a token of one stream after {PROMPT} tokens; peer: {label}", preset=name, tokens=TOKENS,
        our_tokens_per_second=round(TOKENS / statistics.median(ours.seconds)),
    )  # fmt: skip


def main() -> None:
    """All races."""
    for name in MODELS:
        for kind, bits in FORMATS.items():
            report(f"llama.cpp-{kind}", name, partial(TheirStream, name, kind), bits, *BOUNDS[kind])
        if HAS_VLLM:
            report("vllm", name, partial(VllmStream, name), None, 1.5, 3.0)
        report("transformers", name, partial(TransformersStream, name), None, 15.0, 30.0)


if __name__ == "__main__":
    main()
