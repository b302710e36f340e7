"""The learning rate over a run."""

from __future__ import annotations

import pytest

from camelid.core.errors import ConfigError
from camelid.train.schedule import WarmupStableDecay

LINEAR = WarmupStableDecay(warmup=0.1, decay=0.4, final=0.2)


@pytest.mark.parametrize(
    ("progress", "multiplier"), [(0.025, 0.25), (0.1, 1.0), (0.35, 1.0), (0.6, 1.0), (0.8, 0.6), (1.0, 0.2)]
)
def test_up_flat_down(progress: float, multiplier: float) -> None:
    assert LINEAR(progress) == pytest.approx(multiplier)


def test_the_square_root_is_steeper_at_first_and_ends_at_the_same_place() -> None:
    steep = LINEAR.replace(decay_shape="sqrt")
    assert steep(0.7) == pytest.approx(0.6)  # a quarter of the decay done: half of the way from 1 to 0.2
    assert steep(1.0) == pytest.approx(LINEAR(1.0))


def test_a_run_without_warmup_and_decay_is_flat() -> None:
    flat = WarmupStableDecay(warmup=0.0, decay=0.0)
    assert {flat(progress / 10) for progress in range(11)} == {1.0}


@pytest.mark.parametrize(
    "bad", [{"warmup": -0.1}, {"decay": 1.1}, {"warmup": 0.7, "decay": 0.4}, {"final": 2.0}]
)
def test_parts_are_parts_of_one_run(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        WarmupStableDecay(**bad)
