"""Logits against Meta's own code, vision encoder included."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from camelid.core.errors import ConfigError
from camelid.testing import tiny_input, tiny_model
from camelid.testing.meta_reference import MetaReference, tiny_model_for_meta

TOLERANCE = 2e-5  # fp32; measured: 6.1e-6 on logits of size 4


@pytest.mark.parametrize("kind", ["scout", "maverick"])
@torch.no_grad()
def test_logits(kind: Literal["scout", "maverick"]) -> None:
    ours = tiny_model_for_meta(kind)
    meta = MetaReference(ours)
    for num_tokens, tile_starts in ((1, ()), (71, ()), (40, (14,)), (75, (0, 4, 30, 62))):
        item = tiny_input(ours.config, num_tokens, tile_starts)
        expected = meta.logits(item)
        logits = ours.logits(ours(item.token_ids, None, item.tiles, item.patch_positions).hidden)
        assert expected.abs().max() > 1, "logits too small to compare"
        torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


def test_what_meta_cannot_build_is_refused() -> None:
    with pytest.raises(ConfigError, match="every n-th only"):
        MetaReference(tiny_model("dense", head_dim=12))
    with pytest.raises(ConfigError, match="fill the hidden size: 4 x 16 is not 48"):
        MetaReference(tiny_model("maverick", layer_types=("chunked", "global"), moe_layers=(1,)))
