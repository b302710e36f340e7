"""The flags that say how tokens are chosen; apart from core, which needs torch, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from camelid.core import SamplingParams

__all__ = ["SamplingFlags"]


@dataclass(frozen=True)
class SamplingFlags:
    """How tokens are chosen."""

    max_tokens: int = 128
    """The most tokens of one answer."""
    temperature: float = 0.0
    """0 always takes the likeliest token."""
    top_k: int = 0
    """Choose among this many tokens; 0 is all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that hold this much probability."""
    seed: int = 0
    """Where chance starts."""

    def params(self) -> SamplingParams:
        """The checked parameters; ConfigError for impossible ones."""
        from camelid.core import SamplingParams

        return SamplingParams(**asdict(self))
