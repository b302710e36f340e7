"""The two claims about experts: their rules on made-up evidence, and both from end to end in seconds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from camelid.claims import CLAIMS, Evidence, Measurement, run_claim
from camelid.claims.moe_beats_dense import build_config, tokens_to_reach
from camelid.data import StarterPack
from camelid.model import active_parameters, total_parameters

MOE, SPECIALISE = CLAIMS["moe-beats-dense"], CLAIMS["experts-specialise"]
Points = tuple[tuple[float, float], ...]


def test_both_arms_have_as_many_active_parameters() -> None:
    dense, experts = (build_config(arm) for arm in MOE.arms("full").values())
    router = 6 * 16 * 192
    assert active_parameters(experts) - active_parameters(dense) == router
    assert 5.1e6 < active_parameters(dense) < 5.3e6
    assert total_parameters(experts) > 4 * total_parameters(dense)


def test_tokens_to_a_loss_lie_on_the_line_between_two_points() -> None:
    falling = {100.0: 3.0, 200.0: 2.0, 300.0: 1.5}
    assert tokens_to_reach(falling, 2.5) == 150
    assert tokens_to_reach(falling, 2.0) == 200
    assert tokens_to_reach(falling, 3.5) == 100
    assert tokens_to_reach(falling, 1.0) == float("inf")


def moe_evidence(experts: Points) -> Evidence:
    dense: Points = ((100.0, 3.0), (400.0, 2.0))
    return Evidence(
        tuple(
            Measurement(arm, seed, "", {"nats per byte": points[-1][1]}, {"held out": points})
            for seed in range(3)
            for arm, points in (("dense", dense), ("1 of 16 experts", experts))
        )
    )


@pytest.mark.parametrize(
    ("experts", "passed", "share"),
    [
        (((100.0, 2.9), (300.0, 2.0), (400.0, 1.8)), True, 0.75),
        (((100.0, 2.9), (320.0, 2.0), (400.0, 1.8)), False, 0.8),
        (((100.0, 2.9), (400.0, 2.1)), False, 2.0),
    ],
)
def test_experts_must_get_there_in_three_quarters_of_the_tokens(
    experts: Points, passed: bool, share: float
) -> None:
    verdict = MOE.judge(moe_evidence(experts))
    assert verdict.passed == passed
    assert verdict.numbers["largest share of tokens"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("modality", "source", "fresh", "passed"),
    [(0.3, 0.05, 0.04, True), (0.29, 0.05, 0.04, False), (0.3, 0.04, 0.03, False), (0.3, 0.05, 0.06, False)],
)
def test_experts_must_tell_of_both_and_more_than_when_fresh(
    modality: float, source: float, fresh: float, passed: bool
) -> None:
    numbers = {"modality": modality, "source within modality": source}
    numbers |= {f"{name}, fresh": fresh for name in numbers}
    evidence = Evidence(tuple(Measurement("auxiliary loss", seed, "", numbers) for seed in range(3)))
    assert SPECIALISE.judge(evidence).passed == passed


@pytest.mark.parametrize("name", ["moe-beats-dense", "experts-specialise"])
def test_from_end_to_end_and_kept(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arms of a few steps; a second run finds all there is and judges the same."""
    monkeypatch.setattr(StarterPack, "open", cache(StarterPack.open))
    told: list[tuple[str, bool]] = []
    result = run_claim(
        CLAIMS[name],
        form="smoke",
        root=tmp_path,
        seeds=(0,),
        on_arm=lambda arm, *rest: told.append((arm, rest[-1])),
    )
    assert {m.arm for m in result.measurements} == set(CLAIMS[name].arms("smoke"))
    assert all(m.curves for m in result.measurements)
    assert CLAIMS[name].draw(result.evidence).startswith("<svg")
    told.clear()
    again = run_claim(
        CLAIMS[name],
        form="smoke",
        root=tmp_path,
        seeds=(0,),
        on_arm=lambda arm, *rest: told.append((arm, rest[-1])),
    )
    assert again.measurements == result.measurements
    assert {is_known for _, is_known in told} == {True}
