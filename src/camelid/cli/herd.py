"""`camelid herd`: the whole road by one command, resumable; or what it would need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

__all__ = ["Herd"]


@dataclass(frozen=True)
class Herd:
    """Teacher, students, long context, fine-tuning, reward, two chat variants, evaluation, report: one command."""

    recipe: Positional[str] = ""
    """Its name, or a .json file as runs keep it; without one, what recipes there are."""
    dry_run: FlagCreatePairsOff[bool] = False
    """Make nothing: say what it needs in parameters, FLOPs and memory, on one rank and on many."""
    resume: Annotated[Path | None, arg(metavar="DIR")] = None
    """Go on with this herd where it was stopped, as it was configured."""
    run_root: Path = Path("runs")
    """Where the herd's folder is made."""

    def run(self) -> int:
        """Lists, reckons, or goes the road."""
        from camelid.cli import herd_run

        if self.resume is not None:
            return herd_run.resume_herd(self.resume, self.recipe)
        if not self.recipe:
            herd_run.list_recipes()
            return 0
        config = herd_run.herd_config(self.recipe)
        return herd_run.dry_run(config) if self.dry_run else herd_run.start_herd(config, self.run_root)
