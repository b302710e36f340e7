"""Early fusion: projected image features take the places of patch tokens in the text embedding."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.core.errors import InputError
from camelid.model.config import Llama4Config

__all__ = ["MultiModalProjector", "fuse"]


class MultiModalProjector(nn.Module):
    """Adapter features to the decoder's width."""

    def __init__(self, config: Llama4Config) -> None:
        super().__init__()
        assert config.vision is not None
        self.linear_1 = nn.Linear(config.vision.projector_dim, config.text.hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "tiles cells projector"]) -> Float[Tensor, "tiles cells hidden"]:
        out: Tensor = self.linear_1(x)
        return out


def fuse(
    embeddings: Float[Tensor, "tokens hidden"],
    features: Float[Tensor, "tiles cells hidden"],
    patch_positions: Int[Tensor, "patches"],
) -> Float[Tensor, "tokens hidden"]:
    """Replaces the rows at `patch_positions`, in order; refuses a count that does not match exactly."""
    flat = features.flatten(0, 1)
    if flat.shape[0] != patch_positions.shape[0]:
        raise InputError(
            f"{features.shape[0]} tiles give {flat.shape[0]} image features, "
            f"but the sequence has {patch_positions.shape[0]} patch tokens"
        )
    return embeddings.index_copy(0, patch_positions, flat.to(embeddings.dtype))
