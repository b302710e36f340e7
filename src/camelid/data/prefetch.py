"""Work done ahead of time, by one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["prefetch"]

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Yields the same items in the same order, with up to `depth` more being made meanwhile.

    An exception comes out here, after the items before it. Closing (or dropping) the generator waits for
    the item that is being made and makes no more.
    """
    assert depth >= 1
    pending: deque[Future[list[Item]]] = deque()
    # Lists of one item, because an empty list can say "no more" where no item could.
    worker = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        while True:
            while len(pending) <= depth:
                pending.append(worker.submit(lambda: list(islice(items, 1))))
            made = pending.popleft().result()
            if not made:
                return
            yield made[0]
    finally:
        worker.shutdown(cancel_futures=True)
