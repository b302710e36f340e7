"""Running a claim: every arm with every seed, each kept on disk as soon as it is there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from camelid.claims.claim import SEEDS, Claim, Form, Measurement
from camelid.claims.result import ClaimResult, make_result
from camelid.core.digest import sha256_of_text
from camelid.core.errors import ConfigError, DataError
from camelid.core.files import write_text_atomically

__all__ = ["OnArm", "run_claim"]

# The arm, its seed, the part of it that is done, what it does now, and whether it was known from before.
OnArm = Callable[[str, int, float, str, bool], None]


def run_claim(
    claim: Claim[Any],
    *,
    seeds: Sequence[int] = SEEDS,
    form: Form = "full",
    root: Path = Path("runs"),
    on_arm: OnArm = lambda *_: None,
) -> ClaimResult:
    """Measures what is not on disk yet, judges, and writes `root/claims/NAME/FORM.json`.

    All arms with the first seed come before the second. An arm is known by its configuration's digest, so that
    an interrupted claim goes on and a changed arm is measured anew. DataError for a file that was changed.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be different ones, at least one, got {list(seeds)}")
    folder = root / "claims" / claim.name
    folder.mkdir(parents=True, exist_ok=True)
    measurements = []
    for seed in seeds:
        for arm, config in claim.arms(form).items():
            stem = folder / f"{_slug(arm)}-seed{seed}-{config.digest[:8]}"
            path = stem.with_name(f"{stem.name}.json")
            known = _read(path, arm, seed, config.digest)
            on_arm(arm, seed, 0.0 if known is None else 1.0, "", known is not None)
            if known is None:
                began = time.monotonic()
                stem.mkdir(exist_ok=True)

                def tell(share: float, text: str, arm: str = arm, seed: int = seed) -> None:
                    on_arm(arm, seed, share, text, False)

                known = claim.measure(config, seed, stem, tell)
                known = known.replace(
                    arm=arm, config_digest=config.digest, seconds=round(time.monotonic() - began, 1)
                )
                _write(path, known)
                on_arm(arm, seed, 1.0, "", False)
            measurements.append(known)
    result = make_result(claim, form, tuple(measurements))
    result.write(folder / f"{form}.json")
    return result


def _slug(arm: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-")


def _write(path: Path, measurement: Measurement) -> None:
    text = measurement.to_json()
    write_text_atomically(path, f"{text}\n{sha256_of_text(text)}\n")


def _read(path: Path, arm: str, seed: int, digest: str) -> Measurement | None:
    """A measurement that is there and whole; its last line is the digest of what stands before."""
    if not path.is_file():
        return None
    text, _, written = path.read_text(encoding="utf-8").rstrip("\n").rpartition("\n")
    if (found := sha256_of_text(text)) != written:
        raise DataError(f"{path} was changed: sha256 is {found}, the file says {written:.64}")
    measurement = Measurement.from_json(text)
    if (measurement.arm, measurement.seed, measurement.config_digest) != (arm, seed, digest):
        raise DataError(f"{path} is of {measurement.arm}, seed {measurement.seed}, expected {arm}, {seed}")
    return measurement
