"""What a constraint costs per token: the mask of one position, for a small vocabulary and for Llama 4's size.

Peer: the same token without a constraint costs nothing, so the ratio is left out. Vocabularies are made up of random
short words; the schema has strings, numbers, an array and a choice.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time

import torch

from camelid.core import Constraint, SamplingParams
from camelid.infer.constraints import Constraints
from camelid.infer.sampler import Sampler
from camelid.inputs import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 4},
        "kind": {"enum": ["camel", "llama", "alpaca"]},
    },
    "required": ["name", "age", "tags", "kind"],
    "additionalProperties": False,
}
NUM_ANSWERS = 20


def tokenizer(vocab_size: int) -> Tokenizer:
    """All bytes, and random words of 2 to 8 letters, half of them with a blank in front."""
    chance, words = random.Random(0), {bytes([value]): value for value in range(256)}
    while len(words) < vocab_size - 128:
        word = "".join(chance.choices("etaoinshrdlucmf", k=chance.randint(2, 8)))
        words.setdefault((chance.choice(["", " "]) + word).encode(), len(words))
    return Tokenizer(words, 128)


def measure(vocab_size: int) -> dict[str, float]:
    """Median and 95th percentile of microseconds per mask, and what the first use and a new answer cost."""
    made = tokenizer(vocab_size)
    constraints, constraint = Constraints(made, vocab_size), Constraint("json_schema", json.dumps(SCHEMA))
    began = time.perf_counter()
    constraints.matcher(constraint)
    first_seconds, times, starts = time.perf_counter() - began, list[float](), list[float]()
    logits = torch.zeros(vocab_size)
    for seed in range(NUM_ANSWERS):
        began = time.perf_counter()
        matcher = constraints.matcher(constraint)
        starts.append(time.perf_counter() - began)
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed), (), vocab_size)
        for _ in range(200):
            allowed = logits.clone()
            began = time.perf_counter()
            matcher.forbid(allowed)
            times.append(time.perf_counter() - began)
            token_id = sampler(allowed).token_id
            matcher.accept(token_id)
            if token_id in made.stop_ids or matcher.is_finished:
                break
    times.sort()
    return {
        "vocab_size": vocab_size,
        "masks": len(times),
        "median_us": round(statistics.median(times) * 1e6, 1),
        "p95_us": round(times[int(0.95 * len(times))] * 1e6, 1),
        "max_us": round(times[-1] * 1e6, 1),
        "first_use_ms": round(first_seconds * 1e3, 1),
        "new_answer_us": round(statistics.median(starts) * 1e6, 1),
    }


def main() -> int:
    """One line of JSON per vocabulary."""
    for vocab_size in (5_120, 202_048):
        print(json.dumps(measure(vocab_size)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
