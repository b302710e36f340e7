"""Requests become model input in threads: those with pictures few at a time, for decoded pictures are large."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from camelid.serve.api_error import ApiError

__all__ = ["Encoders"]

T = TypeVar("T")


class Encoders:
    """Two lanes, so that text need not wait for films."""

    def __init__(self, num_heavy: int = os.cpu_count() or 1) -> None:
        self._light, self._heavy = CapacityLimiter(16), CapacityLimiter(num_heavy)

    async def run(self, make: Callable[[], T], *, is_heavy: bool) -> T:
        """What `make` returns. Raises ApiError for nesting without end."""
        try:
            return await to_thread.run_sync(make, limiter=self._heavy if is_heavy else self._light)
        except RecursionError as error:
            raise ApiError(400, "the body is nested too deeply", code="invalid_value") from error
