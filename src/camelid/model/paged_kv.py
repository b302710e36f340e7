"""Keys and values of many sequences in pages: all positions for global layers, the current chunk for chunked ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.model.config import LayerType, TextConfig
from camelid.ops.native import LANES, PAGE_SIZE, Pages, empty_pages

__all__ = ["PageTable", "PagedKV"]


class PagedKV:
    """The pages of all layers. A page's number holds `PAGE_SIZE` positions in each layer of its kind."""

    def __init__(
        self, config: TextConfig, num_pages: dict[LayerType, int], dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.config, self.num_pages = config, num_pages
        pages = [
            empty_pages(num_pages[kind], config.num_key_value_heads, config.head_dim, dtype)
            for kind in config.layer_types
        ]
        self.keys, self.values = ([pair[index] for pair in pages] for index in range(2))


class PageTable:
    """One sequence's pages, in the order of positions. Has the face of a `KVCache`: `layers` and `length`.

    Who owns a page and when it is free is not decided here.
    """

    def __init__(self, kv: PagedKV) -> None:
        self.kv, self.length = kv, 0
        self._pages: dict[LayerType, Tensor] = {
            kind: torch.empty(16, dtype=torch.int32) for kind in kv.num_pages
        }
        self._counts: dict[LayerType, int] = dict.fromkeys(kv.num_pages, 0)
        self.layers: Sequence[PagedLayer] = [PagedLayer(self, layer) for layer in range(len(kv.keys))]

    def pages(self, kind: LayerType) -> Int[Tensor, "pages"]:
        """Page numbers of the current chunk, or of the whole context; entries behind the last are without meaning."""
        return self._pages[kind]

    def count(self, kind: LayerType) -> int:
        """How many pages there are."""
        return self._counts[kind]

    def append(self, kind: LayerType, page: int) -> None:
        """The page of the next positions."""
        pages, count = self._pages[kind], self._counts[kind]
        if count == len(pages):
            pages = self._pages[kind] = torch.cat([pages, torch.empty_like(pages)])
        pages[count] = page
        self._counts[kind] = count + 1

    def clear(self, kind: LayerType) -> list[int]:
        """Forgets all pages of a kind and returns them."""
        pages = self._pages[kind][: self._counts[kind]].tolist()
        self._counts[kind] = 0
        return pages


class PagedLayer:
    """One layer's keys and values of one sequence, for the model's own forward.

    The table must have the pages of all new tokens, and these lie in one chunk.
    """

    def __init__(self, table: PageTable, layer: int) -> None:
        self._table, config = table, table.kv.config
        self._kind = config.layer_types[layer]
        self._keys, self._values = table.kv.keys[layer], table.kv.values[layer]
        self._chunk = config.attention_chunk_size if self._kind == "chunked" else None

    def append(
        self, k: Float[Tensor, "new kv_heads head_dim"], v: Float[Tensor, "new kv_heads head_dim"]
    ) -> tuple[Float[Tensor, "known kv_heads head_dim"], Float[Tensor, "known kv_heads head_dim"]]:
        """Stores the new ones; returns all that they may attend to, the new ones last."""
        start = self._table.length
        known = start if self._chunk is None else start % self._chunk
        slots = torch.arange(known, known + k.shape[0])
        assert self._chunk is None or known + k.shape[0] <= self._chunk, (start, k.shape[0], self._chunk)
        pages, slots = self._table.pages(self._kind)[slots // PAGE_SIZE].long(), slots % PAGE_SIZE
        self._keys[pages, :, slots // LANES, :, slots % LANES] = k.to(self._keys.dtype).unflatten(2, (-1, 2))
        self._values[pages, :, :, slots // 2, :, slots % 2] = v.unflatten(2, (-1, LANES))
        # Pages, kv_heads, position / 16, feature / 2, position % 16, feature % 2.
        keys = self._read(self._keys, (0, 2, 4, 1, 3, 5), known + k.shape[0])
        # Pages, kv_heads, feature / 16, position / 2, feature % 16, position % 2.
        return keys, self._read(self._values, (0, 3, 5, 1, 2, 4), known + k.shape[0])

    def _read(
        self, buffer: Pages, order: tuple[int, ...], count: int
    ) -> Float[Tensor, "count kv_heads head_dim"]:
        pages = buffer[self._table.pages(self._kind)[: -(-count // PAGE_SIZE)].long()]
        return pages.permute(*order).flatten(0, 2).flatten(2, 3)[:count]
