"""Keys and values of many sequences in pages: all positions for global layers, the current chunk for chunked ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.model.config import LayerType, TextConfig
from camelid.ops.native import PAGE_SIZE, LayerPages

__all__ = ["PageTable", "PagedKV"]


class PagedKV:
    """The pages of all layers. A page's number holds `PAGE_SIZE` positions in each layer of its kind.

    `dtype`: what keys and values are kept in: int8, or what they are computed in.
    """

    def __init__(
        self, config: TextConfig, num_pages: dict[LayerType, int], dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.config, self.num_pages = config, num_pages
        self.layers = [
            LayerPages.empty(num_pages[kind], config.num_key_value_heads, config.head_dim, dtype)
            for kind in config.layer_types
        ]


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
        self.layers: Sequence[PagedLayer] = [PagedLayer(self, layer) for layer in range(len(kv.layers))]

    def beside(self, kv: PagedKV) -> PageTable:
        """The same pages for another model's keys and values, with a length of its own."""
        table = PageTable(kv)
        table._pages, table._counts = self._pages, self._counts
        return table

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
        self._pages = table.kv.layers[layer]
        self._chunk = config.attention_chunk_size if self._kind == "chunked" else None

    def append(
        self, k: Float[Tensor, "new kv_heads head_dim"], v: Float[Tensor, "new kv_heads head_dim"]
    ) -> tuple[Float[Tensor, "known kv_heads head_dim"], Float[Tensor, "known kv_heads head_dim"]]:
        """Stores the new ones; returns all that they may attend to, the new ones last."""
        start = self._table.length
        known = start if self._chunk is None else start % self._chunk
        slots = torch.arange(known, known + k.shape[0])
        assert self._chunk is None or known + k.shape[0] <= self._chunk, (start, k.shape[0], self._chunk)
        pages, total = self._table.pages(self._kind).long(), known + k.shape[0]
        self._pages.write(pages[slots // PAGE_SIZE], slots % PAGE_SIZE, k, v)
        return self._pages.read(pages[: -(-total // PAGE_SIZE)], total, k.dtype)
