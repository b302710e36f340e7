"""The type checker that jaxtyping puts around every function of the package during tests.

It is beartype, with three differences. An int is a float, as mypy has it. Where beartype cannot check, the
function is left as it is: jaxtyping's import hook hands it one function at a time, which leaves `Self` without a
class, and a protocol says nothing at run time. And of what a test calls over and over, such as a layer for token
after token, the first calls are checked: more took a fifth of all tests' time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

__all__ = ["FIRST_CALLS", "begin_test", "check"]

Function = TypeVar("Function", bound=Callable[..., object])

RULES = BeartypeConf(is_pep484_tower=True)
FIRST_CALLS = 20
"""So many calls of each function are checked in each test."""

_counts: Counter[Callable[..., object]] = Counter()


def begin_test() -> None:
    """Every function is checked anew."""
    _counts.clear()


def check(function: Function) -> Function:
    """The function with its arguments and result checked on the first calls in a test."""
    try:
        checked: Any = beartype(function, conf=RULES)
    except BeartypeDecorHintException:
        return function

    @wraps(function)
    def checked_at_first(*args: Any, **kwargs: Any) -> Any:
        _counts[function] += 1
        return (checked if _counts[function] <= FIRST_CALLS else function)(*args, **kwargs)

    return cast("Function", checked_at_first)
