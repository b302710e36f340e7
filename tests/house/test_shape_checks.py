"""That shapes are really checked when the suite is asked to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from camelid.ops import rms_norm
from shape_checks import FIRST_CALLS, begin_test, check


def test_wrong_calls_are_refused_and_what_cannot_be_checked_is_left() -> None:
    @check
    def double(value: float) -> float:
        return 2 * value

    assert double(3) == 6
    with pytest.raises(Exception, match="violates type hint"):
        double("three")  # type: ignore[arg-type]


def test_the_first_calls_of_each_test_are_checked() -> None:
    @check
    def same(value: int) -> int:
        return value

    for number in range(FIRST_CALLS):
        assert same(number) == number
    wrong: Any = "three"
    assert same(wrong) == wrong
    begin_test()
    with pytest.raises(Exception, match="violates type hint"):
        same(wrong)


def test_the_package_is_under_the_hook_when_asked(pytestconfig: pytest.Config) -> None:
    wrong = torch.ones(3), torch.ones(4), 1e-5
    asked = pytestconfig.getoption("--jaxtyping-packages")
    with pytest.raises(TypeCheckError if asked else RuntimeError):
        rms_norm(*wrong)
