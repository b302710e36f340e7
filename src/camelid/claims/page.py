"""The page of claims, made from the committed results alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from camelid.claims.claim import Claim
from camelid.claims.result import ClaimResult, committed_dir, load_committed

__all__ = ["claims_page"]

HEAD = """# Claims

Each claim has a rule that was written before it was run. Three seeds, every arm kept, nothing left out:
a claim that failed stands here as failed. `camelid claim` lists them, `camelid claim NAME` measures one anew.
The results lie in `src/camelid/claims/results`; a result that anybody has changed is refused.
This page is written by `python scripts/update_claims_page.py`.

| claim | rule | measured | verdict |
|---|---|---|---|
"""


def claims_page(
    claims: Mapping[str, Claim[Any]],
    folder: Path | None = None,
    figures: str = "../src/camelid/claims/results",
) -> str:
    """Markdown: one table of all claims, then each with its setup, figure, seeds and earlier results.

    `figures` is where the page finds them. DataError for a result that was changed.
    """
    results = {name: load_committed(claim, folder or committed_dir()) for name, claim in claims.items()}
    rows = "".join(_row(claim, results[name]) for name, claim in claims.items())
    sections = "".join(_section(claim, results[name], figures) for name, claim in claims.items())
    return HEAD + rows + sections


def _row(claim: Claim[Any], result: ClaimResult | None) -> str:
    measured = result.verdict.measured if result else "not run in full yet"
    return f"| [{claim.name}](#{claim.name}) | {claim.rule} | {measured} | {_verdict(claim, result)} |\n"


def _verdict(claim: Claim[Any], result: ClaimResult | None) -> str:
    if result is None:
        return "open"
    standing = result.standing(claim)
    if standing == "stale":
        return f"stale: measured before the claim changed ({'passed' if result.verdict.passed else 'failed'})"
    return f"**{standing}**"


def _section(claim: Claim[Any], result: ClaimResult | None, figures: str) -> str:
    lines = ["", f"## {claim.name}", "", f"*{claim.statement}* {claim.setup}", ""]
    if result is not None:
        machine = f"{result.machine['cpus']} CPUs, accelerator: {result.machine['accelerator']}"
        minutes = sum(m.seconds for m in result.measurements) / 60
        lines += [
            f"![{claim.name}]({figures}/{claim.name}.svg)",
            "",
            f"Means over seeds {', '.join(map(str, result.evidence.seeds))}; error bars go from the lowest to the "
            f"highest. {result.date}, {machine}, torch {result.versions['torch']}, {minutes:.0f} minutes in all.",
            "",
            *_numbers(result),
        ]
        lines += [
            f"- Before, on {old.date}: {'passed' if old.verdict.passed else 'failed'}. {old.verdict.measured}"
            for old in result.earlier
        ]
    lines += [f"- Tried: {text}" for text in claim.tried]
    return "\n".join(lines).rstrip() + "\n"


def _numbers(result: ClaimResult) -> Iterable[str]:
    """A table of all single numbers, arm by arm, with a value for each seed."""
    names = sorted({name for m in result.measurements for name in m.numbers}, key=_by_number)
    yield f"| arm | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for arm in result.evidence.arms:
        runs = [m for m in result.measurements if m.arm == arm]
        cells = (" / ".join(f"{m.numbers[name]:.4g}" for m in runs if name in m.numbers) for name in names)
        yield f"| {arm} | {' | '.join(cells)} |"
    yield ""


def _by_number(name: str) -> list[str]:
    """An order in which 1,024 comes after 128."""
    return [part.zfill(20) if part.isdigit() else part for part in re.split(r"(\d+)", name.replace(",", ""))]
