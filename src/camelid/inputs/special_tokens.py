"""The 2048 special tokens that follow the base vocabulary of Llama 4, as names in order of their offset.

A token is written `<|NAME|>`; here stands only NAME. A smaller vocabulary takes a prefix of this table, so
an offset means the same token in every member of the herd. Source: Meta's llama-models 0.3.0.
"""

from __future__ import annotations

__all__ = [
    "MIN_SPECIAL_TOKENS",
    "NUM_SPECIAL_TOKENS",
    "SPECIAL_TOKEN_NAMES",
    "STOP_TOKEN_NAMES",
    "VIDEO",
    "VIDEO_END",
    "VIDEO_FRAME_SEPARATOR",
    "VIDEO_START",
]


def _reserved(prefix: str, first: int, last: int) -> list[str]:
    return [f"{prefix}reserved_special_token_{number}" for number in range(first, last + 1)]


SPECIAL_TOKEN_NAMES: tuple[str, ...] = (
    "begin_of_text",  # 0
    "end_of_text",
    "fim_prefix",
    "fim_middle",
    "fim_suffix",
    "header_start",  # 5
    "header_end",
    "eom",
    "eot",
    "step",
    *_reserved("text_post_train_", 0, 5),  # 10
    "python_start",  # 16
    "python_end",
    "finetune_right_pad",
    *_reserved("text_post_train_", 8, 68),  # 19
    "image_start",  # 80
    "image_end",
    *_reserved("vision_", 0, 1),
    "tile_x_separator",  # 84
    "tile_y_separator",
    *_reserved("vision_", 2, 5),
    "image",  # 90
    *_reserved("vision_", 6, 6),
    "patch",  # 92
    *_reserved("vision_", 7, 1047),
    *_reserved("reasoning_", 0, 7),  # 1134
    "reasoning_thinking_start",
    "reasoning_thinking_end",
    *_reserved("", 0, 903),  # 1144
)

NUM_SPECIAL_TOKENS = len(SPECIAL_TOKEN_NAMES)

# Everything up to <|patch|>: a vocabulary with fewer specials could not show a picture.
MIN_SPECIAL_TOKENS = SPECIAL_TOKEN_NAMES.index("patch") + 1

STOP_TOKEN_NAMES = ("end_of_text", "eom", "eot")

# Meta released no video path, but a later family with the same id layout names these four: the released
# vocabulary hides them among the reserved ones.
VIDEO_START = "vision_reserved_special_token_0"
VIDEO_END = "vision_reserved_special_token_1"
VIDEO_FRAME_SEPARATOR = "vision_reserved_special_token_3"
VIDEO = "vision_reserved_special_token_6"
