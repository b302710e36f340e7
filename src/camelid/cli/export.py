"""`camelid export`: a model of ours as a folder that transformers and llama.cpp's converter read."""

from __future__ import annotations

import sys
from pathlib import Path

from camelid.checkpoint import load_config
from camelid.cli.convert import Dtype, convert
from camelid.core.errors import CheckpointError
from camelid.core.files import write_text_atomically
from camelid.infer import locate
from camelid.inputs import Tokenizer, hf_tokenizer_files

__all__ = ["export"]


def export(named: Path | None, destination: Path, dtype: Dtype) -> None:
    """Writes weights, config, tokenizer, chat template and settings. Refuses a model without tokenizer.model."""
    source = locate.choose_model(named)
    path = source / "tokenizer.model"
    if not path.is_file():
        raise CheckpointError(f"{source} has no tokenizer.model in Llama 4's form; use `camelid convert`")
    config = load_config(source)
    tokenizer = Tokenizer.from_file(path, vocab_size=config.text.vocab_size)
    convert(source, destination, "hf", dtype)
    patch_size = None if config.vision is None else config.vision.patch_size
    for name, text in hf_tokenizer_files(tokenizer, config.text.max_position_embeddings, patch_size).items():
        write_text_atomically(destination / name, text)
    family = "AutoModelForCausalLM" if config.vision is None else "AutoModelForImageTextToText"
    print(f"transformers reads it: {family}.from_pretrained({str(destination)!r})", file=sys.stderr)
