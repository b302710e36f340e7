"""A claim goes on where it stopped, its files are refused once touched, and a failure is shown as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from camelid.claims import (
    CLAIMS,
    Claim,
    ClaimResult,
    Measurement,
    claims_page,
    load_committed,
    record,
    run_claim,
)
from camelid.core.errors import ConfigError, DataError, TrainingError
from claims.toy_claim import ToyArm, toy_claim

GOOD, BAD = {"Two": 2.0, "One": 1.0}, {"One": 1.0, "Half!": 0.5}
ROOT = Path(__file__).parents[2]


def test_every_arm_meets_every_seed_once_and_a_stopped_claim_goes_on(tmp_path: Path) -> None:
    measured: list[tuple[float, int]] = []
    with pytest.raises(KeyboardInterrupt):
        run_claim(toy_claim(GOOD, measured=measured, stop_at=3), root=tmp_path)
    assert measured == [(2.0, 0), (1.0, 0), (2.0, 1)]
    known: list[tuple[str, int]] = []

    def note(arm: str, seed: int, share: float, text: str, is_known: bool) -> None:
        if is_known:
            known.append((arm, seed))

    result = run_claim(toy_claim(GOOD, measured=measured), root=tmp_path, on_arm=note)
    assert measured[3:] == [(1.0, 1), (2.0, 2), (1.0, 2)] and known == [("Two", 0), ("One", 0), ("Two", 1)]
    assert result.evidence.of("Two", "score") == (2.0, 2.1, 2.2)
    assert result.evidence.points("One", "line") == {1.0: (1.0,) * 3, 2.0: (0.0,) * 3}
    assert result.verdict.passed and result.verdict.numbers == {"smallest gap": 1.0}
    run_claim(toy_claim({"Two": 3.0, "One": 1.0}, measured=measured), root=tmp_path, seeds=[0])
    assert measured[6:] == [(3.0, 0)], "an arm that changed is another arm"


def test_files_that_were_changed_are_refused(tmp_path: Path) -> None:
    claim = toy_claim(GOOD, measured=[])
    run_claim(claim, root=tmp_path)
    folder = tmp_path / "claims" / "toy"
    arm = next(folder.glob("one-seed1-*.json"))
    honest = arm.read_text()
    arm.write_text(honest.replace("1.1", "0.1"))
    with pytest.raises(DataError, match="was changed: sha256"):
        run_claim(claim, root=tmp_path)
    arm.write_text(honest)
    result = folder / "full.json"
    values = json.loads(result.read_text())
    result.write_text(json.dumps(values | {"date": "1999-01-01"}))
    with pytest.raises(DataError, match="was changed: sha256"):
        ClaimResult.read(result, claim)
    # Sealed anew, a verdict is still refused that the numbers deny.
    forged = ClaimResult.from_dict(values)
    forged.replace(verdict=forged.verdict.replace(passed=False)).write(result)
    with pytest.raises(DataError, match="its numbers give"):
        ClaimResult.read(result, claim)
    with pytest.raises(DataError, match="expected claim/1 of 'other'"):
        ClaimResult.read(result, replace(claim, name="other"))


def test_a_failed_claim_is_shown_as_failed_and_what_came_before_is_kept(tmp_path: Path) -> None:
    failed = toy_claim(BAD, measured=[])
    committed = tmp_path / "results"  # made where there is none
    record(failed, run_claim(failed, root=tmp_path), committed)
    page = claims_page({"toy": failed}, committed)
    assert "| By 1, in every seed. | at least 0.50 apart | **failed** |" in page
    assert "| One | 1 / 1.1 / 1.2 |" in page and "- Tried: Larger numbers." in page
    passed = toy_claim(GOOD, measured=[])
    assert "stale: measured before the claim changed (failed)" in claims_page({"toy": passed}, committed)
    record(passed, run_claim(passed, root=tmp_path), committed)
    page = claims_page({"toy": passed}, committed)
    assert "**passed**" in page and "failed. at least 0.50 apart" in page
    figure = (committed / "toy.svg").read_text()
    assert figure.startswith("<svg") and "prefers-color-scheme: dark" in figure.replace(
        "scheme:dark", "scheme: dark"
    )


def test_only_the_full_form_is_evidence(tmp_path: Path) -> None:
    claim: Claim[ToyArm] = toy_claim(GOOD, measured=[])
    with pytest.raises(ConfigError, match="only the full form is evidence"):
        record(claim, run_claim(claim, form="smoke", root=tmp_path), tmp_path)
    with pytest.raises(ConfigError, match="different ones"):
        run_claim(claim, seeds=[0, 0], root=tmp_path)
    assert load_committed(claim, tmp_path) is None


def test_what_is_missing_or_not_a_number_is_named(tmp_path: Path) -> None:
    evidence = run_claim(toy_claim(GOOD, measured=[]), root=tmp_path).evidence
    with pytest.raises(ConfigError, match="no arm 'Three' was measured, only Two, One"):
        evidence.of("Three", "score")
    with pytest.raises(ConfigError, match="Two, seed 0: no loss, only score"):
        evidence.of("Two", "loss")
    with pytest.raises(TrainingError, match="a, seed 1: loss is not finite"):
        Measurement("a", 1, "", {"loss": float("nan")})


def test_the_page_is_that_of_the_committed_results() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert page == claims_page(CLAIMS), "run scripts/update_claims_page.py"
