"""What every stage after pretraining begins with: a base model that talks in our format, whole or with adapters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from camelid.checkpoint import load_model, model_files
from camelid.checkpoint.peft_layout import save_adapter
from camelid.core.digest import sha256_of_file
from camelid.core.errors import ConfigError
from camelid.core.files import write_bytes_atomically
from camelid.core.run_dir import RunDir
from camelid.inputs import ChatFormat, Tokenizer
from camelid.model import Llama4, LoraConfig, add_lora

__all__ = ["StartingPoint", "frozen_copy", "model_digest", "start_from"]

TOKENIZER = "tokenizer.model"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class StartingPoint:
    """A model that may learn, its chat format, and the files that make a checkpoint of it a model folder."""

    model: Llama4
    chat_format: ChatFormat
    files: dict[str, str | bytes]

    def save_adapter(self, lora: LoraConfig, directory: Path, base: str) -> None:
        """The adapters alone, in PEFT's form, with the tokenizer: a folder that is read like a model's."""
        save_adapter(self.model, lora, directory, base)
        tokenizer = self.files[TOKENIZER]
        assert isinstance(tokenizer, bytes)
        write_bytes_atomically(directory / TOKENIZER, tokenizer)


def start_from(base: Path, lora: LoraConfig | None, seed: int) -> StartingPoint:
    """Loads a model folder in fp32; ConfigError where there is no tokenizer of our own kind."""
    if not (base / TOKENIZER).is_file():
        raise ConfigError(
            f"{base} has no {TOKENIZER}: dense ancestors with a tokenizer of their own can only be asked"
        )
    model = load_model(base)
    tokenizer = Tokenizer.from_file(base / TOKENIZER, vocab_size=model.config.text.vocab_size)
    torch.manual_seed(seed)
    if lora is not None:
        add_lora(model, lora, seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    files: dict[str, str | bytes] = dict(model_files(model.config, tokenizer.num_special_tokens))
    files[TOKENIZER] = (base / TOKENIZER).read_bytes()
    return StartingPoint(model, ChatFormat.for_model(tokenizer, model.config.vision), files)


def frozen_copy(path: Path, like: Llama4) -> Llama4:
    """Another model of the same vocabulary that only gives its opinion; ConfigError if the vocabularies differ."""
    model = load_model(path)
    ours, theirs = like.config.text.vocab_size, model.config.text.vocab_size
    if ours != theirs:
        raise ConfigError(f"{path} has {theirs:,} tokens, the model that learns has {ours:,}")
    return model.requires_grad_(False).to(like.language_model.head_weight.device).eval()


def model_digest(run: RunDir) -> str:
    """The digest of the last checkpoint's weights."""
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    return sha256_of_file(checkpoint / WEIGHTS)
