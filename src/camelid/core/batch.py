"""What a model eats: one encoded example (`ModelInput`) and many of them packed end to end (`Batch`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

__all__ = ["MODALITIES", "Batch", "Modality", "ModelInput"]

Modality = Literal["text", "image", "video"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@dataclass(frozen=True)
class ModelInput:
    """One document or conversation as the model sees it.

    `loss_weights[i]` says how much the prediction *of* token i counts (0 for prompts, image and video tokens).
    `tiles` are RGB pixels in 0..255, in the order in which their patch tokens stand in the sequence;
    `patch_positions` are the positions of those patch tokens, the same number for every tile. `source` is the name
    of where it was drawn from, or "".
    """

    token_ids: Int[Tensor, "tokens"]
    loss_weights: Float[Tensor, "tokens"]
    tiles: UInt8[Tensor, "tiles 3 size size"]
    patch_positions: Int[Tensor, "patches"]
    modality: Modality = "text"
    source: str = ""

    def __len__(self) -> int:
        return self.token_ids.shape[0]

    @classmethod
    def of_text(cls, token_ids: Int[Tensor, "tokens"] | Sequence[int]) -> ModelInput:
        """Text alone, with the loss on all of it."""
        ids = torch.as_tensor(token_ids, dtype=torch.int64)
        no_tiles, no_patches = torch.empty(0, 3, 0, 0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
        return cls(ids, torch.ones(len(ids)), no_tiles, no_patches)


@dataclass(frozen=True)
class Batch:
    """Documents packed end to end without padding: positions restart, and nobody sees past their own document.

    `target_ids[i]` is the token after i in the same document and `loss_weights[i]` its weight; the last token
    of a document has no successor and weighs 0. Document borders are a list of lengths, never a mask.
    """

    token_ids: Int[Tensor, "tokens"]
    target_ids: Int[Tensor, "tokens"]
    loss_weights: Float[Tensor, "tokens"]
    tiles: UInt8[Tensor, "tiles 3 size size"]
    patch_positions: Int[Tensor, "patches"]
    document_lengths: tuple[int, ...]
    document_modalities: tuple[Modality, ...]
    document_sources: tuple[str, ...] = ()

    @classmethod
    def pack(cls, inputs: Sequence[ModelInput]) -> Batch:
        """Concatenates at least one input, in order."""
        assert inputs, "an empty batch has no meaning"
        targets, weights, patches, start = [], [], [], 0
        for item in inputs:
            targets.append(item.token_ids.roll(-1))
            weight = item.loss_weights.roll(-1)
            weight[-1] = 0.0
            weights.append(weight)
            patches.append(item.patch_positions + start)
            start += len(item)
        return cls(
            token_ids=torch.cat([item.token_ids for item in inputs]),
            target_ids=torch.cat(targets),
            loss_weights=torch.cat(weights),
            tiles=torch.cat([item.tiles for item in inputs]),
            patch_positions=torch.cat(patches),
            document_lengths=tuple(len(item) for item in inputs),
            document_modalities=tuple(item.modality for item in inputs),
            document_sources=tuple(item.source for item in inputs),
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on another device."""
        return replace(
            self,
            token_ids=self.token_ids.to(device),
            target_ids=self.target_ids.to(device),
            loss_weights=self.loss_weights.to(device),
            tiles=self.tiles.to(device),
            patch_positions=self.patch_positions.to(device),
        )

    @property
    def num_tokens(self) -> int:
        return self.token_ids.shape[0]

    @property
    def num_valid_tokens(self) -> float:
        """Sum of loss weights: what a summed loss is divided by."""
        return float(self.loss_weights.sum())

    def modality_ids(self) -> Int[Tensor, "tokens"]:
        """For every token the index in `MODALITIES` of the document it belongs to."""
        ids = torch.tensor([MODALITIES.index(modality) for modality in self.document_modalities])
        return ids.repeat_interleave(torch.tensor(self.document_lengths))
