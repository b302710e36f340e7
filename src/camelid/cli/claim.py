"""`camelid claim`: the list with verdicts, or one claim measured anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import FlagCreatePairsOff, Positional

__all__ = ["Claim"]

COLOURS = {"passed": "green", "failed": "red", "stale": "yellow"}


@dataclass(frozen=True)
class Claim:
    """Measure a claim anew: every arm with every seed, by the rule that was written before. Stopped, it goes on."""

    name: Positional[str] = ""
    """Which; without one, the list with what was measured."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each arm for each."""
    form: Literal["full", "smoke"] = "full"
    """`smoke` takes seconds and shows only that everything works."""
    record: FlagCreatePairsOff[bool] = False
    """Put the result and its figure in the place of the committed ones."""
    run_root: Path = Path("runs")
    """Where arms are kept."""

    def run(self) -> int:
        """Lists, or measures: 1 means that the claim does not hold."""
        if self.name:
            return _measure(self)
        _list()
        return 0


def _list() -> None:
    """Each claim with its rule and what its committed result says."""
    from rich.console import Console
    from rich.table import Table

    from camelid.claims import CLAIMS, load_committed

    table = Table(title="camelid claim NAME", title_justify="left", show_lines=True)
    for heading in ("claim", "rule", "measured", "verdict"):
        table.add_column(heading)
    for name, claim in CLAIMS.items():
        result = load_committed(claim)
        standing = "open" if result is None else result.standing(claim)
        measured = "not run in full yet" if result is None else result.verdict.measured
        table.add_row(name, claim.rule, measured, f"[bold {COLOURS.get(standing, 'dim')}]{standing}[/]")
    Console().print(table)


def _measure(command: Claim) -> int:
    """Runs a claim with a bar per arm and seed, and says whether it holds."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from camelid.claims import CLAIMS, record, run_claim
    from camelid.core.errors import ConfigError

    if command.name not in CLAIMS:
        raise ConfigError(f"no claim {command.name!r}; there are: {', '.join(CLAIMS)}")
    claim, console = CLAIMS[command.name], Console()
    console.print(claim.statement, f"Rule: {claim.rule}", sep="\n", highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("[dim]{task.fields[now]}"), console=console) as progress:
        bars = {
            (arm, seed): progress.add_task(f"{arm}, seed {seed}", total=1.0, start=False, now="")
            for seed in command.seeds
            for arm in claim.arms(command.form)
        }

        def show(arm: str, seed: int, share: float, text: str, is_known: bool) -> None:
            if share < 1 or is_known:
                progress.start_task(bars[arm, seed])
            progress.update(bars[arm, seed], completed=share, now="known from before" if is_known else text)

        result = run_claim(claim, seeds=command.seeds, form=command.form, root=command.run_root, on_arm=show)
    file = command.run_root / "claims" / command.name / f"{command.form}.json"
    passed = result.verdict.passed
    console.print(result.verdict.measured, f"result: {file}", sep="\n", highlight=False)
    console.print("[bold green]passed[/]" if passed else "[bold red]failed[/]")
    if command.record:
        console.print(f"recorded: {record(claim, result)}", highlight=False)
    return 0 if passed else 1
