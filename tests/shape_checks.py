"""The type checker that jaxtyping puts around every function of the package during tests.

It is beartype, with two differences. An int is a float, as mypy has it. And where beartype cannot check, the
function is left as it is: jaxtyping's import hook hands it one function at a time, which leaves `Self` without a
class, and a protocol says nothing at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

__all__ = ["check"]

Function = TypeVar("Function", bound=Callable[..., object])

RULES = BeartypeConf(is_pep484_tower=True)


def check(function: Function) -> Function:
    """The function with its arguments and result checked on every call."""
    try:
        return beartype(function, conf=RULES)
    except BeartypeDecorHintException:
        return function
