"""The table of special tokens, against Meta's own lists and ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camelid.core.errors import DataError
from camelid.inputs import Tokenizer
from camelid.inputs.special_tokens import MIN_SPECIAL_TOKENS, SPECIAL_TOKEN_NAMES

# Ids of Llama 4 minus its 200,000 base tokens.
OFFSETS = {
    "begin_of_text": 0,
    "end_of_text": 1,
    "fim_suffix": 4,
    "header_start": 5,
    "header_end": 6,
    "eom": 7,
    "eot": 8,
    "step": 9,
    "text_post_train_reserved_special_token_5": 15,
    "python_start": 16,
    "python_end": 17,
    "finetune_right_pad": 18,
    "text_post_train_reserved_special_token_8": 19,
    "text_post_train_reserved_special_token_68": 79,
    "image_start": 80,
    "image_end": 81,
    "vision_reserved_special_token_0": 82,
    "tile_x_separator": 84,
    "tile_y_separator": 85,
    "vision_reserved_special_token_5": 89,
    "image": 90,
    "vision_reserved_special_token_6": 91,
    "patch": 92,
    "vision_reserved_special_token_1047": 1133,
    "reasoning_reserved_special_token_0": 1134,
    "reasoning_thinking_start": 1142,
    "reasoning_thinking_end": 1143,
    "reserved_special_token_0": 1144,
    "reserved_special_token_903": 2047,
}


def test_every_offset_is_where_llama_4_has_it() -> None:
    assert {name: SPECIAL_TOKEN_NAMES.index(name) for name in OFFSETS} == OFFSETS
    assert len(SPECIAL_TOKEN_NAMES) == len(set(SPECIAL_TOKEN_NAMES)) == 2048
    assert MIN_SPECIAL_TOKENS == 93


def test_table_equals_metas_lists(meta_dir: Path, definitions_from: Callable[..., dict[str, Any]]) -> None:
    meta = definitions_from(
        meta_dir / "tokenizer.py",
        "get_reserved_special_tokens",
        "BASIC_SPECIAL_TOKENS",
        "LLAMA4_TEXT_POST_TRAIN_SPECIAL_TOKENS",
        "LLAMA4_VISION_SPECIAL_TOKENS",
        "LLAMA4_REASONING_SPECIAL_TOKENS",
        "LLAMA4_SPECIAL_TOKENS",
    )
    theirs = meta["BASIC_SPECIAL_TOKENS"] + meta["LLAMA4_SPECIAL_TOKENS"]
    assert [f"<|{name}|>" for name in SPECIAL_TOKEN_NAMES[: len(theirs)]] == theirs


def test_a_small_vocabulary_takes_a_prefix(tokenizer: Tokenizer, meta_tokenizer: Tokenizer) -> None:
    for name in SPECIAL_TOKEN_NAMES[:128]:
        small = tokenizer.special(name) - tokenizer.num_base_tokens
        assert small == meta_tokenizer.special(name) - meta_tokenizer.num_base_tokens


@pytest.mark.parametrize("count", [92, 2049])
def test_impossible_numbers_of_specials_are_refused(count: int) -> None:
    with pytest.raises(DataError, match=f"93 to 2048 special tokens, not {count}"):
        Tokenizer({bytes([value]): value for value in range(256)}, num_special_tokens=count)
