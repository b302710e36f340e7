"""Runs the two reference preprocessors on one picture: Meta's `ChatFormat` and transformers' `Llama4Processor`.

Both need torchvision, whose only Linux build is for CUDA: beside a CPU torch its compiled half does not load,
and then neither does transformers. Their image code needs nothing compiled, so torchvision stands in a folder
of its own (`make test` puts it there) and only the process that imports this module sees it. Such a process
must also be one of its own because Meta's module makes Pillow accept truncated files everywhere.
"""

from __future__ import annotations

import importlib
import io
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor

from camelid.inputs import Tokenizer

TORCHVISION_DIR = Path(sys.prefix) / "torchvision"
_LEVELS = torch.arange(256, dtype=torch.uint8)


class Seen(NamedTuple):
    """What a preprocessor makes of one picture: normalised tiles, the grid (rows, cols) and the token ids."""

    pixels: Tensor
    grid: tuple[int, int]
    token_ids: list[int]


def import_torchvision() -> None:
    """Makes torchvision importable; without its compiled operators, two of their names must be given to torch."""
    if not TORCHVISION_DIR.is_dir():
        command = f"pip install --no-deps --target {TORCHVISION_DIR} torchvision==0.28.0"
        raise SystemExit(f"{TORCHVISION_DIR} is missing: run `make test` or `{command}`")
    sys.path.insert(0, str(TORCHVISION_DIR))
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        importlib.import_module("torchvision")


_kept: list[Any] = []  # torch forgets what a library defined when the library is collected


@cache
def _meta() -> Any:
    from llama_models.llama4.args import Size, VisionArgs
    from llama_models.llama4.chat_format import ChatFormat
    from llama_models.llama4.tokenizer import Tokenizer as MetaTokenizer

    vision = VisionArgs(
        image_size=Size(height=336, width=336),
        patch_size=Size(height=14, width=14),
        dim=1408,
        n_layers=34,
        n_heads=16,
        mlp_ratio=4.0,
        output_dim=4096,
        pixel_shuffle_ratio=0.5,
    )
    return ChatFormat(MetaTokenizer.get_instance(), vision)


def by_meta(data: bytes, max_tiles: int = 16) -> Seen:
    """The bytes of a file through Meta's reference, which opens them itself."""
    from llama_models.datatypes import RawMediaItem

    _meta().max_num_chunks = max_tiles
    token_ids, (image,) = _meta()._encode_content([RawMediaItem(data=data)])
    rows, cols = image.aspect_ratio
    return Seen(image.image_tiles, (rows, cols), token_ids)


@cache
def _processor(tokenizer: Tokenizer) -> Any:
    """transformers' processor; its tokenizer knows the names of the image tokens and nothing else."""
    import tokenizers
    from transformers import Llama4ImageProcessor, Llama4Processor, PreTrainedTokenizerFast

    names = ("image_start", "image_end", "image", "patch", "tile_x_separator", "tile_y_separator")
    ids = {f"<|{name}|>": tokenizer.special(name) for name in names}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids))
    words.add_special_tokens(list(ids))
    fast = PreTrainedTokenizerFast(tokenizer_object=words)
    return Llama4Processor(Llama4ImageProcessor(), fast)


def by_transformers(data: bytes, tokenizer: Tokenizer, max_tiles: int = 16) -> Seen:
    """The opened picture through transformers' processor, upright as transformers' own `load_image` makes it."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    processor = _processor(tokenizer)
    options = {"max_patches": max_tiles, "return_tensors": "pt"}
    ids = processor(text="<|image|>", images=image, **options)["input_ids"][0].tolist()
    seen = processor.image_processor(image, **options)
    rows, cols = seen["aspect_ratios"][0].tolist()
    tiles = rows * cols + (rows * cols > 1)
    return Seen(seen["pixel_values"].reshape(tiles, 3, 336, 336), (rows, cols), ids)


def meta_normalised(levels: Tensor) -> Tensor:
    """Levels 0..255 as Meta's `ToTensor` and `Normalize` write them, fp32."""
    from torchvision.transforms import Normalize

    pixels = levels.reshape(1, 1, -1).expand(3, 1, -1).float().div(255)
    return Normalize((0.5,) * 3, (0.5,) * 3)(pixels)[0, 0]


def transformers_normalised(levels: Tensor) -> Tensor:
    """Levels 0..255 as transformers' processor writes them, bf16."""
    from transformers import Llama4ImageProcessor

    pixels = levels.reshape(1, 1, -1).expand(3, 1, -1)
    half = [0.5] * 3
    return Llama4ImageProcessor().rescale_and_normalize(pixels, True, 1 / 255, True, half, half)[0, 0]


def as_levels(pixels: Tensor) -> Tensor:
    """Normalised pixels back to the levels 0..255 that they were; raises ValueError if they were none."""
    write = transformers_normalised if pixels.dtype == torch.bfloat16 else meta_normalised
    levels = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).int()
    if not torch.equal(write(_LEVELS)[levels], pixels):
        raise ValueError("these pixels were not made of levels 0..255")
    return levels.to(torch.uint8)
