"""A claim that measures nothing, in no time: that two numbers are as far apart as they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from camelid.claims import Claim, Evidence, Form, Measurement, Verdict
from camelid.claims.claim import OnProgress
from camelid.claims.figure import draw_bars
from camelid.core import Config

__all__ = ["ToyArm", "toy_claim"]


@dataclass(frozen=True)
class ToyArm(Config):
    value: float


def toy_claim(
    values: Mapping[str, float], *, measured: list[tuple[float, int]], stop_at: int = -1
) -> Claim[ToyArm]:
    """Better is first by 1 in every seed. `measured` hears of each run; the one numbered `stop_at` is interrupted."""

    def arms(form: Form) -> dict[str, ToyArm]:
        return {arm: ToyArm(value) for arm, value in values.items()}

    def measure(arm: ToyArm, seed: int, folder: Path, on_progress: OnProgress) -> Measurement:
        if len(measured) == stop_at:
            raise KeyboardInterrupt
        measured.append((arm.value, seed))
        on_progress(0.5, "half")
        return Measurement(
            "", seed, "", {"score": arm.value + seed / 10}, {"line": ((1.0, arm.value), (2.0, 0.0))}
        )

    def judge(evidence: Evidence) -> Verdict:
        gaps = [a - b for a, b in zip(*(evidence.of(arm, "score") for arm in values), strict=True)]
        return Verdict(min(gaps) >= 1, f"at least {min(gaps):.2f} apart", {"smallest gap": min(gaps)})

    return Claim(
        name="toy",
        statement="The first is larger.",
        setup="Two numbers.",
        rule="By 1, in every seed.",
        arms=arms,
        measure=measure,
        judge=judge,
        draw=lambda evidence: draw_bars(evidence, {"score": "score"}),
        tried=("Larger numbers.",),
    )
