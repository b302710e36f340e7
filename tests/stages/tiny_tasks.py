"""Tasks and a base model in miniature for learning by reward or preference, in seconds."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch

from camelid.checkpoint import save_model
from camelid.core import Message
from camelid.data.splits import Split
from camelid.data.verifiable import Challenge
from camelid.inputs import Tokenizer
from camelid.model import Llama4, Llama4Config, TextConfig, VisionConfig, init_weights

__all__ = ["LETTERS", "FirstLetter", "save_tiny_base"]

MODEL = Llama4Config(
    TextConfig(
        vocab_size=5120,
        hidden_size=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,  # the engine's pages want whole panels
        intermediate_size=24,
        intermediate_size_mlp=48,
        num_local_experts=4,
        layer_types=("chunked", "global"),
        moe_layers=(0, 1),
        attention_chunk_size=64,
        floor_scale=64,
    ),
    VisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=48,
        patch_size=8,
        projector_dim=32,
        max_tiles=4,
    ),
)
LETTERS = "abcdefgh"


class FirstLetter:
    """Any answer is right that begins with one of the letters a to d: a trivial reward."""

    name = "first-letter"

    def challenge(self, number: int, split: Split = "train") -> Challenge:
        message = Message.of("user", f"Say {LETTERS[number % len(LETTERS)]}.")
        return Challenge(
            (message,), lambda said: float(said[:1] in tuple("abcd")), Message.of("assistant", "a")
        )


def save_tiny_base(path: Path) -> Path:
    """A model that says one of eight letters at random, and then stops."""
    path.mkdir(parents=True, exist_ok=True)
    data = (resources.files("camelid.starter") / "tokenizer.model").read_bytes()
    (path / "tokenizer.model").write_bytes(data)
    tokenizer = Tokenizer.from_file(path / "tokenizer.model", vocab_size=MODEL.text.vocab_size)
    model = init_weights(Llama4(MODEL), 0)
    with torch.no_grad():
        # The head reads one feature each for "begin an answer" and "end it", which only these embeddings have.
        head, embed = model.language_model.lm_head.weight, model.language_model.model.embed_tokens.weight
        begin, end = 30, 31
        letters = [tokenizer.encode(letter)[0] for letter in LETTERS]
        (blank_line,) = tokenizer.encode("\n\n")
        embed[:, [begin, end]] = 0.0
        embed[blank_line, begin] = embed[letters, end] = 2.0
        head.mul_(0.1)
        head[:, [begin, end]] = 0.0
        head[letters, begin] = head[tokenizer.special("eot"), end] = 8.0
        head[letters, range(len(letters))] = 1.0  # and by one more each, letters can be told apart
    save_model(model, path, torch.float32, tokenizer.num_special_tokens)
    return path
