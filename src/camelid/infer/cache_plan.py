"""How many pages of keys and values there are, and the longest context that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch

from camelid.core.errors import ConfigError
from camelid.model.config import LayerType, TextConfig
from camelid.ops.native import PAGE_SIZE, bytes_per_position

__all__ = ["CachePlan", "plan_cache"]

GIGA = 1e9
KINDS: tuple[LayerType, ...] = get_args(LayerType)


@dataclass(frozen=True)
class CachePlan:
    """Pages of each kind; `max_context` tokens are sure to fit into them, for one sequence that is alone."""

    num_pages: dict[LayerType, int]
    max_context: int
    num_bytes: int
    dtype: torch.dtype


def plan_cache(
    text: TextConfig,
    cache_bytes: int,
    *,
    max_context: int | None = None,
    max_running: int = 64,
    dtype: torch.dtype = torch.bfloat16,
    draft: TextConfig | None = None,
) -> CachePlan:
    """Divides memory: first one sequence of the whole context, then sequences of any length, up to `max_running`.

    A draft's keys and values lie on the same pages. `max_context` None is the model's own, or less where memory ends.
    Raises ConfigError if what is asked for does not fit.
    """
    asked, limit = max_context, text.max_position_embeddings
    if asked is not None and not 1 < asked <= limit:
        raise ConfigError(f"a context of {asked:,} tokens; the model's has 2 to {limit:,}")
    page_bytes: dict[LayerType, int] = dict.fromkeys(KINDS, 0)
    for member in (text, draft) if draft else (text,):
        position_bytes = bytes_per_position(member.num_key_value_heads, member.head_dim, dtype)
        for kind in KINDS:
            page_bytes[kind] += position_bytes * PAGE_SIZE * member.layer_types.count(kind)

    def pages(context: int) -> dict[LayerType, int]:
        spans: dict[LayerType, int] = {"chunked": min(context, text.attention_chunk_size), "global": context}
        return {kind: -(-span // PAGE_SIZE) if page_bytes[kind] else 0 for kind, span in spans.items()}

    def num_bytes(counts: dict[LayerType, int]) -> int:
        return sum(page_bytes[kind] * count for kind, count in counts.items())

    context = asked or limit
    if asked is None and num_bytes(pages(context)) > cache_bytes:
        # The largest context that fits, in whole pages.
        low, high = 0, -(-context // PAGE_SIZE)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if num_bytes(pages(middle * PAGE_SIZE)) <= cache_bytes else (low, middle)
            )
        context = low * PAGE_SIZE
    counts = pages(context)
    if context < 2 or num_bytes(counts) > cache_bytes:
        needed = num_bytes(pages(max(context, PAGE_SIZE)))
        raise ConfigError(
            f"a context of {max(context, PAGE_SIZE):,} tokens needs {needed / GIGA:.3f} GB of keys and values, "
            f"there are {cache_bytes / GIGA:.3f} GB"
        )
    most = {kind: count * max_running for kind, count in counts.items()}
    spare = (cache_bytes - num_bytes(counts)) // sum(page_bytes.values())
    counts = {
        kind: min(count + spare, most[kind]) if page_bytes[kind] else 0 for kind, count in counts.items()
    }
    return CachePlan(counts, context, num_bytes(counts), dtype)
