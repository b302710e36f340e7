"""Learning a small vocabulary: byte-level BPE by the `tokenizers` library, handed out in tiktoken's form."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as BpeTokenizer

from camelid.core.errors import DataError
from camelid.inputs.byte_alphabet import byte_of_character
from camelid.inputs.tokenizer import SPLIT_PATTERN

__all__ = ["learn_tokenizer"]


def learn_tokenizer(texts: Iterable[str], num_base_tokens: int) -> dict[bytes, int]:
    """Ranks of `num_base_tokens` byte strings: the 256 bytes in order, then the merges in the order learned.

    The same texts give the same ranks. Raises DataError if the texts do not hold that many merges.
    """
    ranks, _ = _learn(texts, num_base_tokens)
    return ranks


def _learn(texts: Iterable[str], num_base_tokens: int) -> tuple[dict[bytes, int], BpeTokenizer]:
    """Also the library's own tokenizer, with which a test compares tiktoken's encodings."""
    if num_base_tokens < 256:
        raise DataError(f"a vocabulary holds at least the 256 bytes, got {num_base_tokens} tokens")
    tokenizer = BpeTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=num_base_tokens,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    to_byte = byte_of_character()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    merged = (bytes(to_byte[character] for character in left + right) for left, right in merges)
    # Two pairs may merge into the same string: it keeps the rank of the first.
    tokens = dict.fromkeys([*(bytes([value]) for value in range(256)), *merged])
    if len(tokens) < num_base_tokens:
        raise DataError(f"the texts hold only {len(tokens)} of {num_base_tokens} tokens; give more text")
    return {token: rank for rank, token in enumerate(tokens)}, tokenizer
