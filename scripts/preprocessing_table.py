"""Measures our image preprocessing against Meta's and transformers' and writes the table in docs/preprocessing.md.

python scripts/preprocessing_table.py          # rewrites the table; --json prints the rows instead

Differences are in levels, 0..255, of the tiles that the vision encoder is given.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

import preprocessing_pictures as pictures
import preprocessing_references as references
from camelid.core.errors import ImageError
from camelid.core.messages import ImagePart
from camelid.inputs import ChatFormat, Tokenizer, choose_canvas, load_image
from camelid.model.vision import normalised

DOCUMENT = Path(__file__).parents[1] / "docs" / "preprocessing.md"
BEGIN, END = "<!-- table: scripts/preprocessing_table.py -->", "<!-- end of table -->"
TILE_SIZE, MAX_TILES = 336, 16
# Frames of clips are pictures of one tile.
FRAMES = ((1, 5000), (200, 300), (337, 336), (1080, 1920))


class Difference(NamedTuple):
    """Ours against one reference: grid, number of tiles and token ids; pixels; the share that differs."""

    is_same_layout: bool
    largest: int
    share: float


class Row(NamedTuple):
    """One picture. `meta_after_opening`: Meta's result when it is given the pixels that `load_image` makes."""

    picture: str
    size: tuple[int, int]
    grid: tuple[int, int]
    num_tiles: int
    num_tokens: int
    meta: Difference
    meta_after_opening: Difference
    transformers: Difference


def compare(ours: references.Seen, theirs: references.Seen) -> Difference:
    """All of it, in levels."""
    levels = references.as_levels(theirs.pixels)
    is_same = ours.grid == theirs.grid and ours.token_ids == theirs.token_ids
    if levels.shape != ours.pixels.shape:
        return Difference(False, 255, 1.0)
    difference = (levels.int() - ours.pixels.int()).abs()
    share = float((difference > 0).float().mean())
    return Difference(is_same, int(difference.max()), share)


def measure(name: str, data: bytes, tokenizer: Tokenizer, max_tiles: int = MAX_TILES) -> Row:
    """One row."""
    chat_format = ChatFormat(tokenizer, TILE_SIZE, patch_tokens_per_tile=144, max_tiles=max_tiles)
    image = load_image(data)
    given = chat_format.encode_document([ImagePart(data)])
    grid = choose_canvas(image.height, image.width, TILE_SIZE, max_tiles)
    ours = references.Seen(given.tiles, grid, given.token_ids[1:-1].tolist())
    return Row(
        name,
        (image.height, image.width),
        grid,
        len(ours.pixels),
        len(ours.token_ids),
        compare(ours, references.by_meta(data, max_tiles)),
        compare(ours, references.by_meta(pictures.saved(image, compress_level=0), max_tiles)),
        compare(ours, references.by_transformers(data, tokenizer, max_tiles)),
    )


def meta_tokenizer() -> Tokenizer:
    """Llama 4's vocabulary, out of Meta's package."""
    spec = importlib.util.find_spec("llama_models")
    assert spec and spec.submodule_search_locations
    return Tokenizer.from_file(Path(spec.submodule_search_locations[0]) / "llama4" / "tokenizer.model")


def rows(tokenizer: Tokenizer) -> Iterator[Row]:
    """All of them, measured."""
    for name, data in pictures.pictures_of_all_sizes():
        yield measure(name, data, tokenizer)
    for height, width in FRAMES:
        data = pictures.saved(pictures.cut("dog", height, width))
        yield measure(f"frame, {height}x{width}", data, tokenizer, max_tiles=1)
    for name, data in pictures.pictures_of_all_kinds():
        yield measure(name, data, tokenizer)


def normalisation() -> dict[str, float]:
    """How many of the 256 levels we write otherwise than a reference, and each one's largest error in levels."""
    levels = torch.arange(256, dtype=torch.uint8)
    meta, theirs = references.meta_normalised(levels), references.transformers_normalised(levels)
    ours, ours_rounded = (normalised(levels, dtype) for dtype in (torch.float32, torch.bfloat16))
    error = {
        name: float(((pixels.double() + 1) * 127.5 - levels.double()).abs().max())
        for name, pixels in (("our_bf16_error", ours_rounded), ("transformers_bf16_error", theirs))
    }
    return error | {
        "not_metas_fp32": int((ours != meta).sum()),
        "not_metas_bf16": int((ours_rounded != meta.bfloat16()).sum()),
        "not_transformers_bf16": int((ours_rounded != theirs).sum()),
    }


def reads_truncated(tokenizer: Tokenizer) -> dict[str, bool]:
    """Who reads half a JPEG. Meta's module changes Pillow for the whole process; transformers is asked before it."""
    data = pictures.saved(pictures.cut("dog", 300, 400), "JPEG")
    half = data[: len(data) // 2]
    found = {}
    for who, read in (
        ("transformers", lambda: references.by_transformers(half, tokenizer)),
        ("Meta", lambda: references.by_meta(half)),
        ("Camelid", lambda: load_image(half)),
    ):
        try:
            read()
            found[who] = True
        except (OSError, ImageError):
            found[who] = False
    return found


def as_markdown(measured: list[Row]) -> str:
    """The table."""
    lines = [
        "| picture (height×width) | tiles | tokens | layout | Meta | Meta, once opened by us "
        "| transformers | its share |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    for row in measured:
        layout = [
            who
            for who, seen in (("Meta", row.meta), ("transformers", row.transformers))
            if not seen.is_same_layout
        ]
        cells = [
            row.picture,
            str(row.num_tiles),
            str(row.num_tokens),
            f"not {', '.join(layout)}'s" if layout else "equal",
            *(str(seen.largest) for seen in (row.meta, row.meta_after_opening, row.transformers)),
            f"{row.transformers.share:.2%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, and replaces what stands between the markers."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Palette images with Transparency")  # Meta's way to drop it
    references.import_torchvision()
    tokenizer = meta_tokenizer()
    found = {"reads_truncated": reads_truncated(tokenizer), "normalisation": normalisation()}
    measured = list(rows(tokenizer))
    if "--json" in sys.argv:
        print(json.dumps(found | {"rows": [json_row(row) for row in measured]}))
        return
    table = as_markdown(measured)
    print(table)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def json_row(row: Row) -> dict[str, object]:
    """Named fields all the way down."""
    seen = {key: value._asdict() for key, value in row._asdict().items() if isinstance(value, Difference)}
    return row._asdict() | seen


if __name__ == "__main__":
    main()
