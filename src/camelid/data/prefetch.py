"""Work done ahead of time, by one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["prefetch"]

STOPPED: Final = object()


def prefetch[Item](make: Callable[[], Iterator[Item]], depth: int = 2) -> Iterator[Item]:
    """Yields what `make()` yields, in the same order, up to `depth` items ahead.

    An exception in the thread comes out here, after the items before it. Closing the generator (or dropping
    it) ends the thread, which finishes at most the item it is working on.
    """
    items: queue.Queue[object] = queue.Queue(depth)
    is_closed = threading.Event()

    def offer(item: object) -> bool:
        while not is_closed.is_set():
            try:
                items.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in make():
                if not offer((item, None)):
                    return
            offer((STOPPED, None))
        except BaseException as error:
            offer((STOPPED, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = items.get()  # type: ignore[misc]
            if error is not None:
                raise error
            if item is STOPPED:
                return
            yield item
    finally:
        is_closed.set()
        thread.join()
