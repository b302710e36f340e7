"""SmolLM2 here and in transformers: largest differences of logits and probabilities, and equal continuations.

`python benchmarks/dense_parity.py MODEL.gguf`, with a GGUF file of architecture llama; fp32, one document at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from camelid import Message, SamplingParams, load

NUM_NEW_TOKENS = 64
PROMPTS = (
    "What is the capital of France?",
    "Explain in two sentences why camels have humps.",
    "Was ist 17 + 25? Antworte auf Deutsch, bitte! 🐪",
    "def fibonacci(n):\n    if n < 2:\n        return n\n\nFinish this Python function.",
    "List   three\tfacts about “llamas”:\n\n1.",
    "Translate into Spanish: The caravan reached the oasis at 18:45 on 3 May 2024.",
    "Summarise: " + "The caravan went on through the night, and nobody spoke of the well. " * 60,
)


@torch.inference_mode()
def main(path: Path) -> None:
    """Prints one line per prompt."""
    logging.disable_progress_bar()
    ours = load(path)
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    print("tokens  largest   logits probabilities  top-1 equal greedy equal")
    for prompt in PROMPTS:
        messages = [Message.of("user", prompt)]
        token_ids = ours.chat_format.encode(messages, for_generation=True).token_ids
        found = ours.model.logits(ours.model(token_ids).hidden)
        expected = theirs(token_ids[None]).logits[0]
        is_top_equal = found.argmax(-1) == expected.argmax(-1)
        generated = theirs.generate(
            token_ids[None],
            attention_mask=torch.ones_like(token_ids[None]),
            max_new_tokens=NUM_NEW_TOKENS,
            do_sample=False,
        )[0, len(token_ids) :].tolist()
        answer = ours.complete(messages, SamplingParams(max_tokens=NUM_NEW_TOKENS)).token_ids
        wanted = [token_id for token_id in generated if token_id not in ours.tokenizer.stop_ids]
        num_equal = sum(a == b for a, b in zip(answer, wanted, strict=False))
        print(
            f"{len(token_ids):6} {expected.abs().max():8.2f} {(found - expected).abs().max():8.1e} "
            f"{(found.softmax(-1) - expected.softmax(-1)).abs().max():13.1e} "
            f"{int(is_top_equal.sum()):5} / {len(token_ids):4} {num_equal:5} / {len(wanted):4}",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
