"""Patches, pixel shuffle and fusion by the index formulas of the reference."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from camelid.core.errors import InputError
from camelid.model import Llama4
from camelid.model.fusion import fuse
from camelid.model.vision import PatchEmbedding, normalised, pixel_shuffle
from camelid.testing.tiny import tiny_config, tiny_input, tiny_model


@pytest.fixture(scope="module")
def seeing() -> Llama4:
    """Tiles of 16 x 16 pixels, patches of 4 x 4, 4 patch tokens."""
    return tiny_model("scout", vision=True)


def test_patch_features_are_channel_row_column() -> None:
    config = tiny_config(vision=True).vision
    assert config is not None
    embed = PatchEmbedding(config)
    embed.linear = nn.Linear(48, 48, bias=False)
    nn.init.eye_(embed.linear.weight)
    pixels = torch.arange(3 * 16 * 16).view(1, 3, 16, 16).float()
    patches = embed(pixels)[0]
    for channel, y, x in ((0, 0, 0), (0, 0, 5), (1, 6, 3), (2, 15, 14), (2, 9, 0)):
        patch, feature = (y // 4) * 4 + x // 4, channel * 16 + (y % 4) * 4 + x % 4
        assert patches[patch, feature] == pixels[0, channel, y, x]


@pytest.mark.parametrize("side", [2, 4, 6])
def test_pixel_shuffle_by_formula(side: int) -> None:
    """Cell (Y, X) is patches (2Y, 2X), (2Y, 2X + 1), (2Y + 1, 2X), (2Y + 1, 2X + 1) side by side."""
    x = torch.randn(2, side * side, 3)
    shuffled = pixel_shuffle(x)
    assert shuffled.shape == (2, side * side // 4, 12)
    for row in range(side // 2):
        for column in range(side // 2):
            group = [
                x[:, (2 * row + dy) * side + 2 * column + dx] for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1))
            ]
            assert torch.equal(shuffled[:, row * side // 2 + column], torch.cat(group, dim=-1))


@torch.no_grad()
def test_tiles_do_not_see_each_other(seeing: Llama4) -> None:
    tiles = tiny_input(seeing.config, 20, (0, 4, 8)).tiles
    together = seeing.vision_model(tiles)
    assert together.shape == (3, 4, 20)
    alone = torch.cat([seeing.vision_model(tile[None]) for tile in tiles])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)  # measured: 0


@torch.no_grad()
def test_pixels_are_scaled_to_minus_one_to_one(seeing: Llama4) -> None:
    """A mid-grey of 127.5 would embed to zero: 127 and 128 stand opposite each other."""
    grey = torch.full((1, 3, 16, 16), 127, dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    handle = seeing.vision_model.patch_embedding.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    for value in (0, 127, 128, 255):
        seeing.vision_model(torch.full_like(grey, value))
    handle.remove()
    black, below, above, white = (float(pixels.unique()) for pixels in seen)
    assert (black, white) == (-1.0, 1.0)
    assert (below, above) == pytest.approx((-1 / 255, 1 / 255), abs=1e-6)


def test_levels_are_rounded_once() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    exact = (levels.double() - 127.5) / 127.5
    assert torch.equal(normalised(levels, torch.bfloat16), exact.bfloat16())
    assert (normalised(levels, torch.float32) - exact).abs().max() < 1e-7  # measured: 5.8e-8


@torch.no_grad()
def test_features_replace_patch_tokens_in_order(seeing: Llama4) -> None:
    item = tiny_input(seeing.config, 12, (1, 7))
    embedded = seeing.embed(item.token_ids, item.tiles, item.patch_positions)
    features = seeing.multi_modal_projector(seeing.vision_model(item.tiles)).flatten(0, 1)
    assert torch.equal(embedded[[1, 2, 3, 4, 7, 8, 9, 10]], features)
    text = [0, 5, 6, 11]
    assert torch.equal(embedded[text], seeing.embed(item.token_ids)[text])


def test_counts_that_do_not_match_are_refused_with_both() -> None:
    with pytest.raises(
        InputError, match="2 tiles give 8 image features, but the sequence has 7 patch tokens"
    ):
        fuse(torch.zeros(20, 6), torch.zeros(2, 4, 6), torch.arange(7))


def test_a_text_only_model_refuses_tiles() -> None:
    item = tiny_input(tiny_config(vision=True), 12, (1,))
    with pytest.raises(InputError, match="1 tiles given to a text-only model"):
        tiny_model()(item.token_ids, None, item.tiles, item.patch_positions)


def test_looking_before_learning() -> None:
    """What a first forward in inference mode leaves behind must not break a later backward."""
    model = tiny_model(vision=True)
    item = tiny_input(model.config, 12, (1,))
    arguments = (item.token_ids, None, item.tiles, item.patch_positions)
    with torch.inference_mode():
        model(*arguments)
    model(*arguments).hidden.sum().backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "vision" in name)
