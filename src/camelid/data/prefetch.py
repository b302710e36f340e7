"""Work done ahead of time, by one process: a thread would take turns with the training step at the interpreter."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

__all__ = ["prefetch"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Raised:
    """An error on its way to where it is to come out."""

    error: Exception


class _Stream(IterableDataset[Any], Generic[Item]):
    def __init__(self, make: Callable[[], Iterator[Item]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Item | _Raised]:
        if get_worker_info() is not None:
            # Ctrl-C reaches every process of a terminal, but whether to stop is for the one that trains to say.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            yield from self._make()
        except Exception as error:  # passed on whatever it is: torch would bury its message in a traceback
            error.add_note(traceback.format_exc())
            yield _Raised(error)


def prefetch(make: Callable[[], Iterator[Item]], depth: int = 2) -> Generator[Item, None, None]:
    """Yields what `make()` does, in the same order, with up to `depth` more being made meanwhile.

    An exception comes out here, after the items before it. Closing (or dropping) the generator ends the process.
    Items travel by pickle, tensors in shared memory.
    """
    assert depth >= 1
    loader: DataLoader[Item | _Raised] = DataLoader(
        _Stream(make),
        batch_size=None,
        num_workers=1,
        prefetch_factor=depth,
        collate_fn=_as_it_is,
        # Its own, so that the seed that it draws is not taken from the run's random numbers.
        generator=torch.Generator(),
    )
    for item in loader:
        if isinstance(item, _Raised):
            raise item.error
        yield item


def _as_it_is(item: Item) -> Item:
    return item
