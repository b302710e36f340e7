"""How far plain pixels go: names the held-out style by the nearest training drawing. What a model has to beat.

python benchmarks/nearest_drawing.py
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from camelid.data import StarterPack
from camelid.data.augment import on_white
from camelid.data.starter import Drawing

SIDES = (6, 12, 24)  # pixels


def pixels(drawings: tuple[Drawing, ...], side: int) -> torch.Tensor:
    """[drawings, features] in 0..1."""
    small = [on_white(d.image()).resize((side, side), Image.Resampling.BILINEAR) for d in drawings]
    return torch.from_numpy(np.stack([np.asarray(picture).ravel() for picture in small]) / 255)


def main() -> None:
    """Prints the share of names that the nearest neighbour gets right, by picture size."""
    pack = StarterPack.open()
    known, unseen = pack.drawings("train"), pack.drawings_held_out_style()
    for side in SIDES:
        nearest = torch.cdist(pixels(unseen, side), pixels(known, side)).argmin(1).tolist()
        right = sum(
            known[near].concept == drawing.concept for near, drawing in zip(nearest, unseen, strict=True)
        )
        print(f"{side} x {side} pixels: {right} of {len(unseen)} names, {right / len(unseen):.1%}")


if __name__ == "__main__":
    main()
