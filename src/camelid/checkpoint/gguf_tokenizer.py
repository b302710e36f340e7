"""The tokenizer in a GGUF's metadata, written out as the JSON files that Hugging Face keeps beside weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from camelid.core.errors import CheckpointError

__all__ = ["SPLITS", "gguf_text_files"]

KEY = "tokenizer.ggml."
CONTROL, USER_DEFINED, UNKNOWN = 3, 4, 2  # of ggml's token types
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2_LEVEL = BYTE_LEVEL | {"use_regex": True}
# How text is cut before merging, under llama.cpp's names (its src/llama-vocab.cpp has the list of them all).
SPLITS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [GPT2_LEVEL],
    "smollm": [{"type": "Digits", "individual_digits": True}, GPT2_LEVEL],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False},
        BYTE_LEVEL,
    ],
}
# Llama 3 takes a word that is in the vocabulary whole, whatever the merges would make of it.
WHOLE_WORDS = ("llama-bpe",)
TOKEN_NAMES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def gguf_text_files(metadata: Mapping[str, Any], origin: str) -> dict[str, str]:
    """tokenizer.json, tokenizer_config.json and generation_config.json, by name.

    CheckpointError for what is not byte-level BPE, cut in a way that we do not know, or contradicts itself.
    """
    try:
        if (kind := metadata[f"{KEY}model"]) != "gpt2":
            raise CheckpointError(f"{origin}: {KEY}model is {kind!r}, only byte-level BPE ('gpt2') is read")
        split = metadata.get(f"{KEY}pre", "gpt-2")
        if split not in SPLITS:
            raise CheckpointError(f"{origin}: {KEY}pre is {split!r}, known are {', '.join(sorted(SPLITS))}")
        tokens: list[str] = metadata[f"{KEY}tokens"]
        ids = {name: metadata.get(KEY + key) for name, key in TOKEN_NAMES.items()}
        names = {name: tokens[token_id] for name, token_id in ids.items() if token_id is not None}
        tokenizer = _tokenizer(metadata, tokens, split, origin)
        if metadata.get(f"{KEY}add_bos_token", split in WHOLE_WORDS) and ids["bos_token"] is not None:
            tokenizer["post_processor"] = _beginning(names["bos_token"], ids["bos_token"])
        settings = names | {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
        }
        if f"{KEY[:-5]}chat_template" in metadata:
            settings["chat_template"] = metadata[f"{KEY[:-5]}chat_template"]
        end_keys = [KEY + key for key in ("eos_token_id", "eot_token_id", "eom_token_id")]
        ends = {int(metadata[key]) for key in end_keys if key in metadata}
    except KeyError as error:
        raise CheckpointError(f"{origin} lacks {error}") from error
    except (IndexError, TypeError) as error:
        raise CheckpointError(f"{origin}: a tokenizer that contradicts itself: {error}") from error
    files = {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": settings,
        "generation_config.json": {"bos_token_id": ids["bos_token"], "eos_token_id": sorted(ends)},
    }
    return {name: json.dumps(values, indent=1, ensure_ascii=False) + "\n" for name, values in files.items()}


def _tokenizer(metadata: Mapping[str, Any], tokens: list[str], split: str, origin: str) -> dict[str, Any]:
    types: list[int] = metadata.get(f"{KEY}token_type") or [1] * len(tokens)
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    merges = [merge.split(" ") for merge in metadata[f"{KEY}merges"]]
    if len(vocab) != len(tokens) or len(types) != len(tokens):
        raise CheckpointError(
            f"{origin}: {len(tokens)} tokens, {len(vocab)} different, with {len(types)} types"
        )
    if any(len(pair) != 2 for pair in merges):
        raise CheckpointError(f"{origin}: a merge that is not of two tokens")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind != USER_DEFINED,
            }
            for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind in (CONTROL, USER_DEFINED, UNKNOWN)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": SPLITS[split]},
        "post_processor": None,
        "decoder": BYTE_LEVEL | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": split in WHOLE_WORDS,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _beginning(token: str, token_id: int) -> dict[str, Any]:
    """bos before every text, in the form of the `tokenizers` library."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            first,
            {"Sequence": {"id": "A", "type_id": 0}},
            first,
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }
