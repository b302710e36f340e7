"""One sequence in the engine: its tokens, its pages, and what of its beginning others have computed before."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch

from camelid.core import ModelInput
from camelid.infer.page_pool import PagePool
from camelid.model.config import LayerType
from camelid.model.paged_kv import PagedKV, PageTable
from camelid.ops.native import PAGE_SIZE

__all__ = ["PagedTokens", "Pools"]

Pools = dict[LayerType, PagePool]


class PagedTokens:
    """Token ids, of which the first `table.length` are in pages.

    A page of tokens is known by a digest over it and all before it, the pictures at its patch tokens included. Pages
    are shared where they fit into chunks; otherwise (chunks of a few tokens, in tests) every sequence has its own.
    """

    def __init__(self, prompt: ModelInput, kv: PagedKV, pools: Pools, *, is_fresh: bool = False) -> None:
        """A fresh one takes nothing over, since all of its logits are wanted."""
        self.token_ids: list[int] = prompt.token_ids.tolist()
        self.table, self._pools = PageTable(kv), pools
        self._kinds = [kind for kind in pools if kind in kv.config.layer_types]
        self.chunk = kv.config.attention_chunk_size
        self._is_shared = self.chunk % PAGE_SIZE == 0
        self._is_fresh = is_fresh
        self._pictures = _picture_digests(prompt)
        self._digests: list[bytes] = []

    @property
    def num_left(self) -> int:
        """Tokens that are not in pages yet."""
        return len(self.token_ids) - self.table.length

    def _digest(self, page: int) -> bytes:
        """Of page `page` of tokens, which must be full, and all before it."""
        while len(self._digests) <= page:
            index = len(self._digests)
            first, last = index * PAGE_SIZE, (index + 1) * PAGE_SIZE
            before = self._digests[-1] if index else b""
            hashed = blake2b(before, digest_size=20)
            hashed.update(torch.tensor(self.token_ids[first:last]).numpy().tobytes())
            for position in range(first, min(last, len(self._pictures))):
                hashed.update(self._pictures[position])
            self._digests.append(hashed.digest())
        return self._digests[page]

    def find_beginning(self) -> int:
        """Takes over what others have computed; returns how many tokens. The last token is always left to compute."""
        if self._is_fresh or not self._is_shared:
            return 0
        num_pages = (len(self.token_ids) - 1) // PAGE_SIZE
        found: dict[LayerType, list[int]] = {}
        if "global" in self._kinds:
            found["global"] = self._find("global", 0, num_pages)
            num_pages = len(found["global"])
        if "chunked" in self._kinds:  # only the current chunk is ever read
            start = num_pages * PAGE_SIZE // self.chunk * self.chunk // PAGE_SIZE
            found["chunked"] = self._find("chunked", start, num_pages)
            num_pages = start + len(found["chunked"])
        for kind, pages in found.items():
            for page in pages[:num_pages] if kind == "global" else pages:
                self._pools[kind].hold(page)
                self.table.append(kind, page)
        self.table.length = num_pages * PAGE_SIZE
        return self.table.length

    def _find(self, kind: LayerType, first: int, last: int) -> list[int]:
        """Known pages from the first on, up to the first that is not known."""
        pages: list[int] = []
        for index in range(first, last):
            page = self._pools[kind].find(self._digest(index))
            if page is None:
                break
            pages.append(page)
        return pages

    def drop_past_chunk(self) -> None:
        """Before the next step: a full chunk is never read again, so its pages go."""
        if self.table.length % self.chunk == 0 and "chunked" in self._kinds:
            self._release("chunked")

    def pages_needed(self, num_tokens: int) -> dict[LayerType, int]:
        """How many more pages of each kind the next tokens need, which lie in one chunk."""
        return self._pages_needed(self.table.length + num_tokens)

    def pages_needed_to_end(self) -> dict[LayerType, int]:
        """The same for all tokens that are left; no chunk needs more than a whole one."""
        start = self.table.length
        end = min(len(self.token_ids), start - start % self.chunk + self.chunk)
        needed = self._pages_needed(end)
        if "global" in self._kinds:
            needed["global"] = -(-len(self.token_ids) // PAGE_SIZE) - self.table.count("global")
        return needed

    def _pages_needed(self, end: int) -> dict[LayerType, int]:
        start = self.table.length
        begins: dict[LayerType, int] = {"chunked": start - start % self.chunk, "global": 0}
        return {
            kind: max(0, -(-(end - begins[kind]) // PAGE_SIZE) - self.table.count(kind))
            for kind in self._kinds
        }

    def reserve(self, num_tokens: int) -> None:
        """Takes the `pages_needed`, which must be free."""
        for kind, count in self.pages_needed(num_tokens).items():
            for _ in range(count):
                self.table.append(kind, self._pools[kind].take())

    def limit(self, num_tokens: int) -> int:
        """No more tokens than end the current chunk."""
        return min(num_tokens, self.chunk - self.table.length % self.chunk)

    def learn(self, num_new: int) -> None:
        """After a step that wrote `num_new` tokens: lets others find the pages that became full."""
        if not self._is_shared:
            return
        length = self.table.length
        for index in range((length - num_new) // PAGE_SIZE, length // PAGE_SIZE):
            for kind in self._kinds:
                chunk_start = (length - 1) // self.chunk * self.chunk // PAGE_SIZE
                place = index if kind == "global" else index - chunk_start
                self._pools[kind].learn(int(self.table.pages(kind)[place]), self._digest(index))

    def _release(self, kind: LayerType) -> None:
        # The last first: of a beginning, what comes early is the longest kept.
        for page in reversed(self.table.clear(kind)):
            self._pools[kind].release(page)

    def release(self) -> None:
        """Gives all pages back. The tokens can be computed again, from the start."""
        for kind in self._kinds:
            self._release(kind)
        self.table.length = 0


def _picture_digests(prompt: ModelInput) -> Sequence[bytes]:
    """At each position what its patch token stands for, none at text; empty without pictures."""
    if not len(prompt.tiles):
        return []
    digests = [b""] * len(prompt)
    patches_per_tile = len(prompt.patch_positions) // len(prompt.tiles)
    tiles = [blake2b(tile.contiguous().numpy().tobytes(), digest_size=20).digest() for tile in prompt.tiles]
    for index, position in enumerate(prompt.patch_positions.tolist()):
        digests[position] = tiles[index // patches_per_tile] + (index % patches_per_tile).to_bytes(4)
    return digests
