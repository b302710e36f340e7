"""What a stage changed, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["told_changes"]


def told_changes(notes: Mapping[str, Any]) -> dict[str, str]:
    """A stage's notes as a person reads them: scores before and after, counts, the end model's digest."""
    told = {name: f"{notes[name]:,}" for name in ("num_pairs",) if name in notes}
    before, after = notes.get("before", {}), notes.get("after", {})
    for name, value in before.items():
        if name != "num_questions":
            told[name] = f"{value:.2f}" + (f" → {after[name]:.2f}" if name in after else "")
    for name, source in notes.get("filter", {}).items():
        told[f"dropped of {name}"] = f"{source['num_dropped']:,} of {source['num_scored']:,}"
    return told | ({"weights": notes["digest"][:16]} if "digest" in notes else {})
