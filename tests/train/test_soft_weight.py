"""What part of the loss is the teacher's: at the beginning, when it pulls ahead, when it is caught up with."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from camelid.core.errors import ConfigError
from camelid.train.soft_weight import WSD, Constant, Gap, weighting


def test_constant_and_wsd() -> None:
    assert weighting(Constant(0.7))(0.3) == {"text": 0.7, "image": 0.7, "video": 0.7}
    by_progress = weighting(WSD())
    weights = [by_progress(progress)["image"] for progress in (0.0, 0.05, 0.1, 0.5, 0.6, 0.8, 1.0)]
    assert weights == pytest.approx([0.0, 0.45, 0.9, 0.9, 0.9, 0.6, 0.3])


def test_the_gap_follows_what_the_teacher_is_worth() -> None:
    gap = weighting(Gap(highest=0.9, half=0.1, memory=0.5))
    assert gap(0.0) == {"text": 0.0, "image": 0.0, "video": 0.0}, "nothing is known yet"
    gap.observe({"text": 8.0, "image": 3.0}, {"text": 8.5, "image": 2.9})
    assert gap(0.1)["text"] == 0.0, "a teacher that is worse teaches nothing"
    assert gap(0.1)["image"] == pytest.approx(0.45), "at half, half the highest"
    risen = []
    for _ in range(20):
        gap.observe({"text": 6.0}, {"text": 3.0})
        risen.append(gap(0.5)["text"])
    assert risen == sorted(risen) and risen[-1] == pytest.approx(0.9 * 3 / 3.1, rel=1e-3)
    for _ in range(20):
        gap.observe({"text": 2.5}, {"text": 2.5})
    assert gap(0.9)["text"] < 0.01, "caught up"
    assert gap(0.9)["image"] == pytest.approx(0.45), "no image, no news"
    assert gap(0.9)["video"] == 0.0


def test_its_state_goes_through_json_to_the_last_bit() -> None:
    losses = [({"text": 5 / (step + 1)}, {"text": 1 / (step + 3)}) for step in range(12)]
    whole, resumed = weighting(Gap()), weighting(Gap())
    for step, pair in enumerate(losses):
        whole.observe(*pair)
        resumed.observe(*pair)
        if step == 5:
            state = json.loads(json.dumps(resumed.state))
            resumed = weighting(Gap())
            resumed.state = state
    assert whole.state == resumed.state and whole(0.5) == resumed(0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Constant(1.5), "weight is a part of the loss and must be in 0..1, got 1.5"),
        (lambda: WSD(peak=-0.1), "peak .* got -0.1"),
        (lambda: Gap(half=0.0), "half must be above 0 nats, got 0"),
        (lambda: Gap(memory=1.0), "memory must be in .* got 1.0"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
