"""The vision encoder: a ViT with a learned table and 2-D RoPE, pixel shuffle, and a two-layer adapter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, UInt8
from torch import Tensor, nn

from camelid.model.config import VisionConfig
from camelid.ops import apply_rope, full_attention, layer_norm, patch_rotations

__all__ = ["VisionModel", "normalised", "pixel_shuffle"]


def normalised(tiles: UInt8[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Levels 0..255 become (level / 255 - 0.5) / 0.5, computed in fp32 and rounded once: Meta's bits."""
    return ((tiles.float() / 255 - 0.5) / 0.5).to(dtype)


def pixel_shuffle(x: Float[Tensor, "tiles patches features"]) -> Float[Tensor, "tiles quarter wide"]:
    """Joins each 2x2 group of patches into one vector: (0,0), (0,1), (1,0), (1,1), groups row by row."""
    tiles, patches, features = x.shape
    side = int(patches**0.5)
    grid = x.view(tiles, side // 2, 2, side // 2, 2, features)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(tiles, patches // 4, 4 * features)


class LayerNorm(nn.Module):
    """Layer norm with weight and bias."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "tiles patches hidden"]) -> Float[Tensor, "tiles patches hidden"]:
        return layer_norm(x, self.weight, self.bias, self.eps)


class PatchEmbedding(nn.Module):
    """Cuts a tile into patches, features in (channel, row, column) order, and projects them."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.linear = nn.Linear(3 * config.patch_size**2, config.hidden_size, bias=False)

    def forward(self, pixels: Float[Tensor, "tiles 3 size size"]) -> Float[Tensor, "tiles patches hidden"]:
        p = self.patch_size
        patches = pixels.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5)
        out: Tensor = self.linear(patches.flatten(3).flatten(1, 2))
        return out


class VisionAttention(nn.Module):
    """Full attention among the patches of one tile, with biases."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(4)
        )

    def forward(
        self, x: Float[Tensor, "tiles patches hidden"], turns: Complex[Tensor, "patches pairs"]
    ) -> Float[Tensor, "tiles patches hidden"]:
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = apply_rope(q, turns), apply_rope(k, turns)
        projected: Tensor = self.o_proj(full_attention(q, k, v).flatten(2))
        return projected


class VisionMLP(nn.Module):
    """fc2(gelu(fc1 x)), erf form."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Float[Tensor, "tiles patches hidden"]) -> Float[Tensor, "tiles patches hidden"]:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class VisionLayer(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = VisionAttention(config)
        self.mlp = VisionMLP(config)
        self.input_layernorm = LayerNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = LayerNorm(config.hidden_size, config.norm_eps)

    def forward(
        self, x: Float[Tensor, "tiles patches hidden"], turns: Complex[Tensor, "patches pairs"]
    ) -> Float[Tensor, "tiles patches hidden"]:
        x = x + self.self_attn(self.input_layernorm(x), turns)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class VisionEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, x: Float[Tensor, "tiles patches hidden"], turns: Complex[Tensor, "patches pairs"]
    ) -> Float[Tensor, "tiles patches hidden"]:
        for layer in self.layers:
            x = layer(x, turns)
        return x


class AdapterMLP(nn.Module):
    """gelu(fc2(gelu(fc1 x))) without biases; the second activation is Meta's, not a slip."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4 * config.hidden_size, config.projector_dim, bias=False)
        self.fc2 = nn.Linear(config.projector_dim, config.projector_dim, bias=False)

    def forward(self, x: Float[Tensor, "tiles cells wide"]) -> Float[Tensor, "tiles cells projector"]:
        return F.gelu(self.fc2(F.gelu(self.fc1(x))))


class VisionAdapter(nn.Module):
    """Pixel shuffle, then the adapter's MLP."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.mlp = AdapterMLP(config)

    def forward(self, x: Float[Tensor, "tiles patches hidden"]) -> Float[Tensor, "tiles cells projector"]:
        out: Tensor = self.mlp(pixel_shuffle(x))
        return out


class VisionModel(nn.Module):
    """Tiles of pixels to one feature vector per patch token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.positional_embedding_vlm = nn.Parameter(
            torch.empty(config.patches_per_side**2 + 1, config.hidden_size)
        )
        self.layernorm_pre = LayerNorm(config.hidden_size, config.norm_eps)
        self.layernorm_post = LayerNorm(config.hidden_size, config.norm_eps)
        self.model = VisionEncoder(config)
        self.vision_adapter = VisionAdapter(config)
        self._turns: Tensor | None = None

    def forward(self, tiles: UInt8[Tensor, "tiles 3 size size"]) -> Float[Tensor, "tiles cells projector"]:
        """Levels 0..255, normalised to the weights' dtype, become one vector for each 2x2 patches."""
        x = self.patch_embedding(normalised(tiles, self.patch_embedding.linear.weight.dtype))
        class_token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([x, class_token], dim=1) + self.positional_embedding_vlm.to(x.dtype)
        if self._turns is None or self._turns.device != x.device:
            config = self.config
            with torch.inference_mode(False):  # kept for later steps, which may want gradients
                turns = patch_rotations(config.patches_per_side, config.head_dim, config.rope_theta)
                self._turns = turns.to(x.device)
        x = self.layernorm_post(self.model(self.layernorm_pre(x), self._turns))
        out: Tensor = self.vision_adapter(x[:, :-1])
        return out
