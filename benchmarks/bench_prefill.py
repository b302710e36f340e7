"""Prefill of 2048 tokens in bf16 against transformers: fill the cache, return the last token's logits."""

from __future__ import annotations

import statistics

import torch
from torch import Tensor

from camelid.model import KVCache
from measure import compare, time_in_turn
from peer import build_ours, build_peer, random_tokens

NAME, LENGTH, ROUNDS, REQUIRED_RATIO = "mini-scout", 2048, 7, 5.0
LOGIT_TOLERANCE = 0.1  # relative to the logits' spread; measured: see the README


@torch.inference_mode()
def main() -> None:
    """Checks that both give the same logits, then times prefills in turn, each from an empty cache."""
    ours = build_ours(NAME).eval()
    peer = build_peer(ours).eval()
    tokens = random_tokens(1, LENGTH, ours.config.text.vocab_size)

    def run_peer() -> Tensor:
        logits: Tensor = peer(input_ids=tokens, use_cache=True, logits_to_keep=1).logits[0, -1]
        return logits

    def run_ours() -> Tensor:
        hidden = ours(tokens[0], cache=KVCache(ours.config.text)).hidden
        return ours.logits(hidden[-1])

    expected = run_peer().float()
    difference = float((run_ours().float() - expected).norm() / expected.norm())
    if difference > LOGIT_TOLERANCE:
        raise SystemExit(f"the logits differ by {difference:.3f} of their size")
    seconds = time_in_turn(run_peer, run_ours, ROUNDS)
    facts = {
        "what": "prefill from an empty cache to the last token's logits, bf16",
        "tokens": LENGTH,
        "our_tokens_per_second": LENGTH / statistics.median(seconds[1]),
        "relative_logit_difference": difference,
    }
    compare(f"prefill-{NAME}", "s", *seconds, required_ratio=REQUIRED_RATIO, **facts)


if __name__ == "__main__":
    main()
