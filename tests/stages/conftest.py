"""What every run in miniature needs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from camelid.data import StarterPack

open_once = cache(StarterPack.open)


@pytest.fixture(autouse=True, scope="package")
def _one_thread_one_pack() -> Iterator[None]:
    """One thread, since sums depend on how they are split; and a pack that is not read again for every run."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StarterPack, "open", open_once)
        yield
    torch.set_num_threads(num_threads)
