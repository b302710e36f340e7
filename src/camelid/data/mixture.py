"""Several sources, and how often each is asked."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping

import numpy as np

from camelid.core.errors import ConfigError
from camelid.data.example import Source

__all__ = ["Mixture"]


class Mixture:
    """Sources with weights: shares of examples, in any unit. A weight of 0 leaves the source out.

    Raises ConfigError for negative or non-finite weights, no source at all, or two sources of one name.
    """

    def __init__(self, weights: Mapping[Source, float]) -> None:
        for source, weight in weights.items():
            if not (weight >= 0 and math.isfinite(weight)):
                raise ConfigError(f"weight of source {source.name!r} must be finite and >= 0, got {weight}")
        kept = {source: float(weight) for source, weight in weights.items() if weight > 0}
        if not kept:
            raise ConfigError(f"a mixture needs a source of positive weight, got {len(weights)} without any")
        self.sources: tuple[Source, ...] = tuple(kept)
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ConfigError(f"sources of a mixture need different names, got {names}")
        total = sum(kept.values())
        self.shares: dict[str, float] = {source.name: weight / total for source, weight in kept.items()}
        self._bounds = list(itertools.accumulate(self.shares.values()))

    def choose(self, rng: np.random.Generator) -> Source:
        """One source, with a probability of its share."""
        place = bisect.bisect_right(self._bounds, rng.random())
        return self.sources[min(place, len(self.sources) - 1)]
