"""Peak memory of the training step of bench_train_step, each side in a process of its own.

The number is the whole process's peak resident set, interpreter and libraries included.
"""

from __future__ import annotations

import resource
import subprocess
import sys

LENGTH = 512
CASES = (("mini-scout", 8), ("mini-maverick", 2))
REQUIRED_RATIO = 2.0
STEPS = 2  # the second one meets the optimizer state that the first one made


def peak_gb(side: str, name: str, sequences: int) -> float:
    """Runs this file again for one side."""
    command = [sys.executable, __file__, side, name, str(sequences)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(finished.stdout.split()[-1])


def measure_this_process(side: str, name: str, sequences: int) -> None:
    """Prints the peak in GB after the steps of one side."""
    from peer import build_ours, build_peer, our_training_step, peer_training_step, random_tokens

    model = build_ours(name)
    tokens = random_tokens(sequences, LENGTH, model.config.text.vocab_size)
    if side == "peer":
        model = build_peer(model)
        step = peer_training_step(model, tokens)
    else:
        step = our_training_step(model, tokens)
    for _ in range(STEPS):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def main() -> None:
    """Compares both sides for every case."""
    from measure import compare

    for name, sequences in CASES:
        peer, ours = (peak_gb(side, name, sequences) for side in ("peer", "ours"))
        facts = {"what": "peak resident set of a process that trains two steps", "batch": [sequences, LENGTH]}
        compare(f"train-memory-{name}", "GB", [peer], [ours], required_ratio=REQUIRED_RATIO, **facts)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure_this_process(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
