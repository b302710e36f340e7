"""Puts a finished run's weights into the package, in bf16, with the recipe that made them.

python scripts/ship_weights.py runs/RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from camelid.checkpoint import load_model, save_model
from camelid.checkpoint.train_state import refuse_selection_bias
from camelid.core.errors import CheckpointError
from camelid.core.files import write_bytes_atomically, write_text_atomically
from camelid.core.run_dir import RunDir
from camelid.inputs import Tokenizer

MAX_BYTES = 20_000_000
DESTINATION = Path(__file__).parents[1] / "src" / "camelid" / "weights"


def main(run_dir: Path) -> None:
    """Writes weights/PRESET; CheckpointError when the run has no checkpoint or the folder grows too large."""
    run = RunDir.open(run_dir)
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        raise CheckpointError(f"{run_dir} has no complete checkpoint")
    refuse_selection_bias(checkpoint)
    directory = DESTINATION / str(run.status()["preset"])
    model = load_model(checkpoint)
    tokenizer_path = checkpoint / "tokenizer.model"
    tokenizer = Tokenizer.from_file(tokenizer_path, vocab_size=model.config.text.vocab_size)
    save_model(model, directory, torch.bfloat16, tokenizer.num_special_tokens)
    write_bytes_atomically(directory / "tokenizer.model", tokenizer_path.read_bytes())
    write_text_atomically(directory / "recipe.json", run.config_path.read_text(encoding="utf-8"))
    size = sum(file.stat().st_size for file in directory.iterdir())
    if size > MAX_BYTES:
        raise CheckpointError(f"{directory} has {size:,} bytes, at most {MAX_BYTES:,} ship")
    print(f"{directory}: {size:,} bytes, step {run.checkpoint_steps()[-1]} of {run.path.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
