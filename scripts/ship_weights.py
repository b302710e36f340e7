"""Puts a finished run's weights into the package, with the recipe that made them: whole, in bf16, or a chat variant.

python scripts/ship_weights.py runs/RUN

A chat variant ships as its adapter, beside the model that it was tuned from and with what it did to its manners.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from camelid.checkpoint import load_model, save_model
from camelid.checkpoint.peft_layout import CONFIG, WEIGHTS
from camelid.checkpoint.train_state import refuse_selection_bias
from camelid.core.digest import sha256_of_file
from camelid.core.errors import CheckpointError
from camelid.core.files import write_bytes_atomically, write_text_atomically
from camelid.core.run_dir import RunDir
from camelid.inputs import Tokenizer

MAX_BYTES = 20_000_000
DESTINATION = Path(__file__).parents[1] / "src" / "camelid" / "weights"


def main(run_dir: Path) -> None:
    """Writes a folder of weights/; CheckpointError when the run has no checkpoint or the folder grows too large."""
    run = RunDir.open(run_dir)
    if run.latest_checkpoint() is None:
        raise CheckpointError(f"{run_dir} has no complete checkpoint")
    directory = ship_variant(run) if run.status()["stage"] == "dpo" else ship_model(run)
    size = sum(file.stat().st_size for file in directory.iterdir())
    if size > MAX_BYTES:
        raise CheckpointError(f"{directory} has {size:,} bytes, at most {MAX_BYTES:,} ship")
    print(f"{directory}: {size:,} bytes, step {run.checkpoint_steps()[-1]} of {run.path.name}")


def ship_model(run: RunDir) -> Path:
    """A pretrained model: weights/PRESET."""
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    refuse_selection_bias(checkpoint)
    directory = DESTINATION / str(run.status()["preset"])
    model = load_model(checkpoint)
    tokenizer_path = checkpoint / "tokenizer.model"
    tokenizer = Tokenizer.from_file(tokenizer_path, vocab_size=model.config.text.vocab_size)
    save_model(model, directory, torch.bfloat16, tokenizer.num_special_tokens)
    write_bytes_atomically(directory / "tokenizer.model", tokenizer_path.read_bytes())
    write_text_atomically(directory / "recipe.json", run.config_path.read_text(encoding="utf-8"))
    return directory


def ship_variant(run: RunDir) -> Path:
    """An adapter: weights/BASE-VARIANT. notes.json has manners before and after, and the digest of the whole model."""
    recipe = json.loads(run.config_path.read_text(encoding="utf-8"))
    base = recipe["base"] = Path(recipe["base"]).name
    directory = DESTINATION / f"{base}-{recipe['variant']}"
    directory.mkdir(exist_ok=True)
    adapter = json.loads((run.adapter_dir / CONFIG).read_text(encoding="utf-8"))
    adapter["base_model_name_or_path"] = f"../{base}"
    write_text_atomically(directory / CONFIG, json.dumps(adapter, indent=2, sort_keys=True) + "\n")
    write_text_atomically(directory / "recipe.json", json.dumps(recipe, indent=2, sort_keys=True) + "\n")
    for source in (run.adapter_dir / WEIGHTS, run.adapter_dir / "tokenizer.model", run.path / "notes.json"):
        write_bytes_atomically(directory / source.name, source.read_bytes())
    sums = "".join(f"{sha256_of_file(directory / name)}  {name}\n" for name in (CONFIG, WEIGHTS))
    write_text_atomically(directory / "SHA256SUMS", sums)
    return directory


if __name__ == "__main__":
    main(Path(sys.argv[1]))
