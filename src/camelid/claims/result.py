"""What a claim's run leaves behind: a sealed JSON file that is refused once anybody has touched it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch

from camelid.claims.claim import Claim, Evidence, Form, Measurement, Verdict
from camelid.core import Config
from camelid.core.digest import sha256_of_text
from camelid.core.errors import ConfigError, DataError
from camelid.core.files import write_text_atomically

__all__ = ["ClaimResult", "Earlier", "Standing", "committed_dir", "load_committed", "make_result", "record"]

SCHEMA = "claim/1"
Standing = Literal["passed", "failed", "stale"]


@dataclass(frozen=True)
class Earlier(Config):
    """A result that a later one took the place of: none is forgotten."""

    date: str
    rule: str
    verdict: Verdict


@dataclass(frozen=True)
class ClaimResult(Config):
    """All arms and seeds of a claim with the verdict. `sha256` is that of the rest, as canonical JSON."""

    schema: str
    claim: str
    form: Form
    rule: str
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    measurements: tuple[Measurement, ...]
    verdict: Verdict
    earlier: tuple[Earlier, ...] = ()
    sha256: str = ""

    def sealed(self) -> ClaimResult:
        """The same with its digest."""
        return self.replace(sha256=sha256_of_text(self.replace(sha256="").to_json()))

    @property
    def evidence(self) -> Evidence:
        """What rules and figures read."""
        return Evidence(self.measurements)

    def write(self, path: Path) -> None:
        """Writes it sealed."""
        write_text_atomically(path, json.dumps(self.sealed().to_dict(), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path, claim: Claim[Any]) -> ClaimResult:
        """Reads and checks: DataError for a file that is none, was changed, or whose verdict its numbers deny."""
        try:
            result = cls.load(path)
        except ConfigError as error:
            raise DataError(f"{path}: no readable result: {error}") from error
        if result.schema != SCHEMA or result.claim != claim.name:
            raise DataError(
                f"{path}: {result.schema} of {result.claim!r}, expected {SCHEMA} of {claim.name!r}"
            )
        if (digest := result.sealed().sha256) != result.sha256:
            raise DataError(f"{path} was changed: sha256 is {digest}, the file says {result.sha256}")
        if result.is_current(claim) and (verdict := claim.judge(result.evidence)) != result.verdict:
            raise DataError(f"{path}: its numbers give {verdict}, the file says {result.verdict}")
        return result

    def is_current(self, claim: Claim[Any]) -> bool:
        """Whether neither the rule nor any arm has changed since it was measured."""
        measured = {m.arm: m.config_digest for m in self.measurements}
        arms = {arm: config.digest for arm, config in claim.arms(self.form).items()}
        return self.rule == claim.rule and measured == arms

    def standing(self, claim: Claim[Any]) -> Standing:
        """The verdict, or that it is about another claim than today's."""
        if not self.is_current(claim):
            return "stale"
        return "passed" if self.verdict.passed else "failed"


def make_result(claim: Claim[Any], form: Form, measurements: tuple[Measurement, ...]) -> ClaimResult:
    """Judges what was measured on this machine, today."""
    return ClaimResult(
        schema=SCHEMA,
        claim=claim.name,
        form=form,
        rule=claim.rule,
        date=time.strftime("%Y-%m-%d"),
        machine={
            "platform": platform.platform(),
            "cpus": str(os.cpu_count()),
            "threads": str(torch.get_num_threads()),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        },
        versions={name: importlib.metadata.version(name) for name in ("camelid", "torch", "numpy")}
        | {"python": platform.python_version()},
        measurements=measurements,
        verdict=claim.judge(Evidence(measurements)),
    ).sealed()


def committed_dir() -> Path:
    """The results that come with the package."""
    return Path(str(resources.files("camelid.claims") / "results"))


def load_committed(claim: Claim[Any], folder: Path | None = None) -> ClaimResult | None:
    """The result that we stand behind, or None where a claim was not run in full yet."""
    path = (folder or committed_dir()) / f"{claim.name}.json"
    return ClaimResult.read(path, claim) if path.is_file() else None


def record(claim: Claim[Any], result: ClaimResult, folder: Path | None = None) -> Path:
    """Makes a result the one that we stand behind, with its figure; the one before it stays in its list.

    ConfigError unless it is of the full form.
    """
    if result.form != "full":
        raise ConfigError(f"{claim.name}: only the full form is evidence, this is {result.form}")
    folder = folder or committed_dir()
    folder.mkdir(exist_ok=True)
    before = load_committed(claim, folder)
    if before is not None and before.measurements != result.measurements:
        earlier = (*before.earlier, Earlier(before.date, before.rule, before.verdict))
        result = result.replace(earlier=earlier)
    elif before is not None:
        result = result.replace(earlier=before.earlier)
    path = folder / f"{claim.name}.json"
    result.write(path)
    write_text_atomically(folder / f"{claim.name}.svg", claim.draw(result.evidence))
    return path
