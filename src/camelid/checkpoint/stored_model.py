"""A model on disk, whatever wrote it: its config, and its tensors under the names of `Llama4.state_dict()`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from camelid.checkpoint.lazy_tensor import WeightMap, in_memory
from camelid.core.errors import CheckpointError
from camelid.model import Llama4, Llama4Config

__all__ = ["NUM_RELEASED_SPECIALS", "StoredModel", "stored"]

NUM_RELEASED_SPECIALS = 2048


@dataclass(frozen=True)
class StoredModel:
    """Nothing but headers has been read yet."""

    config: Llama4Config
    tensors: WeightMap
    num_special_tokens: int = NUM_RELEASED_SPECIALS
    origin: str = "memory"
    """The folder and its format, for messages."""

    def checked(self) -> StoredModel:
        """Itself, in the model's own order; CheckpointError names tensors that are missing, left over or misshapen."""
        with torch.device("meta"):
            wanted = {name: tuple(value.shape) for name, value in Llama4(self.config).state_dict().items()}
        if missing := wanted.keys() - self.tensors.keys():
            raise CheckpointError(f"{self.origin}: {len(missing)} tensors are missing, first {min(missing)}")
        if unexpected := self.tensors.keys() - wanted.keys():
            first = min(unexpected)
            raise CheckpointError(
                f"{self.tensors[first].source}: unexpected tensor, as are {len(unexpected) - 1} others"
            )
        for name, shape in wanted.items():
            if (found := self.tensors[name]).shape != shape:
                raise CheckpointError(f"{found.source} has shape {found.shape}, expected {shape}")
            if not found.dtype.is_floating_point:
                raise CheckpointError(f"{found.source} has dtype {found.dtype}, expected floating point")
        return replace(self, tensors={name: self.tensors[name] for name in wanted})

    def to(self, dtype: torch.dtype) -> StoredModel:
        """Cast while read."""
        return replace(self, tensors={name: tensor.to(dtype) for name, tensor in self.tensors.items()})

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def load(self, dtype: torch.dtype, *, absolute_positions: bool = False) -> Llama4:
        """The model in memory, in evaluation mode. No more than one tensor is held twice."""
        with torch.device("meta"):
            model = Llama4(self.config, absolute_positions=absolute_positions)
        for name, tensor in self.checked().to(dtype).tensors.items():
            path, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(path), attribute, nn.Parameter(tensor.read(None)))
        for name, buffer in list(model.named_buffers()):
            path, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(path), attribute, torch.zeros_like(buffer, device="cpu"))
        return model.eval()


def stored(model: Llama4, num_special_tokens: int | None = None) -> StoredModel:
    """A model in memory as if it lay on disk. Refuses one whose routing needs a bias that no format has."""
    for name, buffer in model.named_buffers():
        if name.endswith("selection_bias") and bool(buffer.any()):
            raise CheckpointError(
                f"{name} is not zero (max {buffer.abs().max():.3g}): the format has no place for it"
            )
    tensors = {name: in_memory(tensor, name) for name, tensor in model.state_dict().items()}
    return StoredModel(
        model.config, tensors, NUM_RELEASED_SPECIALS if num_special_tokens is None else num_special_tokens
    )
