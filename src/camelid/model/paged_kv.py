"""Keys and values of many sequences in pages of one pool: all positions for global layers, one chunk for chunked."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.core.errors import InputError
from camelid.model.config import LayerType, TextConfig
from camelid.ops.native import LANES, PAGE_SIZE, empty_pages

__all__ = ["PagedKV", "PagedSequence"]


class PagedKV:
    """The pool. `num_pages` counts pages of each kind; a page holds `PAGE_SIZE` positions in all layers of its kind.

    Pages are given back as a sequence is closed; whoever asks for more than there are gets an `InputError`.
    """

    def __init__(self, config: TextConfig, num_pages: dict[LayerType, int]) -> None:
        self.config, self.num_pages = config, num_pages
        pages = [
            empty_pages(num_pages[kind], config.num_key_value_heads, config.head_dim)
            for kind in config.layer_types
        ]
        self.keys, self.values = ([pair[index] for pair in pages] for index in range(2))
        self._free: dict[LayerType, list[int]] = {
            kind: list(reversed(range(count))) for kind, count in num_pages.items()
        }

    def num_free(self, kind: LayerType) -> int:
        """Pages that nobody holds."""
        return len(self._free[kind])

    def take(self, kind: LayerType) -> int:
        """A page's number."""
        if not self._free[kind]:
            raise InputError(f"all {self.num_pages[kind]} pages of the {kind} layers' cache are in use")
        return self._free[kind].pop()

    def give_back(self, kind: LayerType, pages: list[int]) -> None:
        """Lets others have them."""
        self._free[kind].extend(pages)


class PagedSequence:
    """One sequence's pages. Has the face of a `KVCache`: `layers` and `length`."""

    def __init__(self, pool: PagedKV) -> None:
        self.pool, self.length = pool, 0
        self._pages: dict[LayerType, Tensor] = {}
        self._num_held: dict[LayerType, int] = {"chunked": 0, "global": 0}
        for kind in self._num_held:
            self._pages[kind] = torch.empty(16, dtype=torch.int32)
        self.layers = [PagedLayer(self, layer) for layer in range(len(pool.keys))]

    def pages(self, kind: LayerType) -> Int[Tensor, "pages"]:
        """Page numbers in the order of positions, of the current chunk or of the whole context, and some spare."""
        return self._pages[kind]

    def reserve(self, num_tokens: int) -> None:
        """Takes the pages that the next `num_tokens` will need; none if there are not enough of them."""
        end = self.length + num_tokens
        chunk = self.pool.config.attention_chunk_size
        # Once a chunk is full, its pages serve the next.
        needed: dict[LayerType, int] = {
            "chunked": -(-min(end, chunk) // PAGE_SIZE),
            "global": -(-end // PAGE_SIZE),
        }
        kinds = [kind for kind in needed if kind in self.pool.config.layer_types]
        for kind in kinds:
            if (more := needed[kind] - self._num_held[kind]) > self.pool.num_free(kind):
                raise InputError(
                    f"{end:,} positions need {more} more pages of the {kind} layers' cache; "
                    f"{self.pool.num_free(kind)} of {self.pool.num_pages[kind]} are free"
                )
        for kind in kinds:
            while self._num_held[kind] < needed[kind]:
                self._hold(kind, self.pool.take(kind))

    def _hold(self, kind: LayerType, page: int) -> None:
        table, count = self._pages[kind], self._num_held[kind]
        if count == len(table):
            table = self._pages[kind] = torch.cat([table, torch.empty_like(table)])
        table[count] = page
        self._num_held[kind] = count + 1

    def close(self) -> None:
        """Gives all pages back."""
        for kind, count in self._num_held.items():
            self.pool.give_back(kind, self._pages[kind][:count].tolist())
            self._num_held[kind] = 0


class PagedLayer:
    """One layer's keys and values of one sequence, for the model's own forward. Pages must have been reserved."""

    def __init__(self, sequence: PagedSequence, layer: int) -> None:
        self._sequence, pool = sequence, sequence.pool
        self._kind = pool.config.layer_types[layer]
        self._keys, self._values = pool.keys[layer], pool.values[layer]
        self._chunk = pool.config.attention_chunk_size if self._kind == "chunked" else None

    def append(
        self, k: Float[Tensor, "new kv_heads head_dim"], v: Float[Tensor, "new kv_heads head_dim"]
    ) -> tuple[Float[Tensor, "known kv_heads head_dim"], Float[Tensor, "known kv_heads head_dim"]]:
        """Stores the new ones; returns all that they may attend to, as `LayerCache.append` does."""
        start = self._sequence.length
        known = start if self._chunk is None else start % self._chunk
        end = known + k.shape[0]
        all_keys = torch.cat([self._read(self._keys, known), k.to(self._keys.dtype)])
        all_values = torch.cat([self._read(self._values, known), v.to(self._values.dtype)])
        # Counted from the first chunk in sight. Of several chunks only the last is read again.
        chunk_start = 0 if self._chunk is None else (end - 1) // self._chunk * self._chunk
        first = max(known, chunk_start)
        slots = torch.arange(first, end) - chunk_start
        pages, slots = self._sequence.pages(self._kind)[slots // PAGE_SIZE].long(), slots % PAGE_SIZE
        self._keys[pages, :, slots // LANES, :, slots % LANES] = all_keys[first:].unflatten(2, (-1, 2))
        self._values[pages, :, slots] = all_values[first:]
        return all_keys, all_values

    def _read(self, buffer: Tensor, count: int) -> Float[Tensor, "count kv_heads head_dim"]:
        """The first positions of keys or of values."""
        pages = buffer[self._sequence.pages(self._kind)[: -(-count // PAGE_SIZE)].long()]
        if pages.ndim > 4:  # tiles of keys: positions come before pairs again
            pages = pages.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return pages.transpose(1, 2).flatten(0, 1)[:count]
