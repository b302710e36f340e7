"""In how many bits a model is kept while it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from camelid.core.config import Config

__all__ = ["Precision"]


@dataclass(frozen=True)
class Precision(Config):
    """Of the matrices, and of keys and values; None leaves them in the dtype that the model was loaded in.

    Router, norms, embeddings and the vision tower are never quantised: they are small, and a router that errs chooses
    another expert.
    """

    weight_bits: Literal[8, 4] | None = None
    kv_bits: Literal[8] | None = None

    def describe(self, dtype: str) -> str:
        """For people and clients: `int4, keys and values int8`. `dtype`: what None means."""
        weights = f"int{self.weight_bits}" if self.weight_bits else dtype
        return f"{weights}, keys and values int8" if self.kv_bits else weights
