"""Who holds which page of keys and values, and which pages still know the beginning of some earlier prompt."""

from __future__ import annotations

from collections import OrderedDict

from camelid.model.config import LayerType

__all__ = ["PagePool"]


class PagePool:
    """Pages of one kind, counted by their holders. A full page may be known by the digest of all that leads up to it.

    What nobody holds is free; if it is known it keeps its content until the page is needed, the longest unused first.
    """

    def __init__(self, kind: LayerType, num_pages: int) -> None:
        self.kind, self.num_pages = kind, num_pages
        self._unknown = list(reversed(range(num_pages)))  # free, with nothing worth keeping
        self._idle: OrderedDict[int, None] = OrderedDict()  # free, but known; the longest unused first
        self._holders = [0] * num_pages
        self._digests: list[bytes | None] = [None] * num_pages
        self._known: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._unknown) + len(self._idle)

    @property
    def num_known(self) -> int:
        """Pages that nobody holds and a prompt that begins alike would find."""
        return len(self._idle)

    def take(self) -> int:
        """A page for new content. There must be a free one."""
        if self._unknown:
            page = self._unknown.pop()
        else:
            page, _ = self._idle.popitem(last=False)
            self._forget(page)
        self._holders[page] = 1
        return page

    def _forget(self, page: int) -> None:
        if (digest := self._digests[page]) is not None:
            del self._known[digest]
            self._digests[page] = None

    def hold(self, page: int) -> None:
        """One more holder of a known page."""
        self._holders[page] += 1
        self._idle.pop(page, None)

    def release(self, page: int) -> None:
        """One holder less."""
        assert self._holders[page] > 0, (self.kind, page)
        self._holders[page] -= 1
        if self._holders[page]:
            return
        if self._digests[page] is None:
            self._unknown.append(page)
        else:
            self._idle[page] = None

    def find(self, digest: bytes) -> int | None:
        """The page with this content, if it is still there."""
        return self._known.get(digest)

    def learn(self, page: int, digest: bytes) -> None:
        """Lets others find a full page. Of two with the same content the first stays known."""
        if digest not in self._known:
            self._known[digest] = page
            self._digests[page] = digest
