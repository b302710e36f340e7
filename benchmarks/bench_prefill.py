"""Prefill of 2048 tokens in bf16 against transformers: fill an empty cache, return the last token's logits."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from camelid.core.memory import keep_freed_memory
from camelid.model import KVCache
from measure import compare, race
from peer import build_ours, build_peer, random_tokens

NAME, LENGTH, ROUNDS, REQUIRED, AIM = "mini-scout", 2048, 9, 5.0, 8.0
LOGIT_TOLERANCE = 0.1  # of the logits' norm; the measured difference is in the results


def peer_prefill() -> Callable[[], Tensor]:
    """Builds the peer's prefill, which returns [vocab] logits."""
    model = build_peer(NAME).eval()
    tokens = random_tokens(1, LENGTH, model.config.vocab_size)

    @torch.inference_mode()
    def prefill() -> Tensor:
        logits: Tensor = model(input_ids=tokens, use_cache=True, logits_to_keep=1).logits[0, -1]
        return logits.float().clone()

    return prefill


def our_prefill() -> Callable[[], Tensor]:
    """Builds ours on the same tokens."""
    keep_freed_memory()
    model = build_ours(NAME).eval()
    (tokens,) = random_tokens(1, LENGTH, model.config.text.vocab_size)

    @torch.inference_mode()
    def prefill() -> Tensor:
        hidden = model(tokens, cache=KVCache(model.config.text)).hidden
        return model.logits(hidden[-1]).float().clone()

    return prefill


def main() -> None:
    """Races prefills, refuses logits that differ, and reports."""
    peer, ours = race(peer_prefill, our_prefill, ROUNDS)
    difference = float((peer.first_result - ours.first_result).norm() / peer.first_result.norm())
    if difference > LOGIT_TOLERANCE:
        sys.exit(f"the logits differ by {difference:.3f} of their size")
    compare(
        f"prefill-{NAME}",
        "s",
        peer.seconds,
        ours.seconds,
        required=REQUIRED,
        aim=AIM,
        what="prefill from an empty cache to the last token's logits; bf16",
        preset=NAME,
        tokens=LENGTH,
        relative_logit_difference=round(difference, 4),
        our_tokens_per_second=round(LENGTH / statistics.median(ours.seconds)),
    )


if __name__ == "__main__":
    main()
