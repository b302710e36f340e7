"""Going a herd's road on a view, with a page for every run and one for the herd; and reckoning beforehand."""

from __future__ import annotations

import inspect
from pathlib import Path

from rich.console import Console
from rich.table import Table

from camelid.cli.family_report import write_family_report
from camelid.cli.herd_view import open_road_view
from camelid.cli.training_run import INTERRUPTED, camelid_command
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.herd import Family, HerdConfig, check_room, needs_of, plan, travel
from camelid.herd.needs import room_here
from camelid.herd.stage import PRETRAINING
from camelid.recipes.herd import HERD_RECIPES

__all__ = ["dry_run", "herd_config", "list_recipes", "resume_herd", "start_herd"]

RANKS = (1, 8, 64, 512, 4096)
RANK_GB = 80


def list_recipes() -> None:
    """Prints each recipe with what it is for."""
    table = Table(title="camelid herd RECIPE", box=None, title_justify="left", show_header=False)
    for name, recipe in HERD_RECIPES.items():
        table.add_row(f"[bold]{name}[/]", (inspect.getdoc(recipe) or "").partition("\n")[0])
    Console().print(table)


def herd_config(recipe: str) -> HerdConfig:
    """By a recipe's name or from a file; ConfigError lists the recipes there are."""
    if recipe.endswith(".json"):
        return HerdConfig.load(Path(recipe))
    if recipe not in HERD_RECIPES:
        raise ConfigError(f"no recipe {recipe!r}; there are: {', '.join(HERD_RECIPES)}, or a .json file")
    return HERD_RECIPES[recipe]()


def start_herd(config: HerdConfig, run_root: Path, report: Path | None = None) -> int:
    """A new herd; the exit code. Its page is also written to `report`. ConfigError where it has no room to learn."""
    check_room(config, room_here())
    return _go(config, run_root, None, report)


def resume_herd(folder: Path, recipe: str) -> int:
    """Goes on as configured; a `recipe` that is another configuration is refused."""
    run = RunDir.open(folder)
    config = herd_config(recipe) if recipe else HerdConfig.load(run.config_path)
    return _go(config, folder.parent, run, None)


def _go(config: HerdConfig, run_root: Path, resume: RunDir | None, report: Path | None) -> int:
    console = Console()
    with open_road_view(config, console) as view:
        folder = travel(
            config,
            run_root=run_root,
            resume=resume,
            watch=view,
            on_start=lambda folder: view.announce(f"herd: {folder.path}"),
        )
    family = Family.of(folder)
    page = write_family_report(family)
    if report is not None:
        page = write_family_report(family, report)
    console.print(_scores(family))
    _tell(console, "report", str(page))
    if folder.status()["status"] != "finished":
        _tell(console, "interrupted; go on with", camelid_command("herd", "--resume", str(folder.path)))
        return INTERRUPTED
    for one in family.descendants():
        if one.run is not None and all(other.parent != one.stage for other in family.descendants()):
            _tell(console, f"talk to {one.stage}", camelid_command("chat", str(one.run.path)))
    return 0


def _scores(family: Family) -> Table:
    """Right answers about what was held out, beside the blind twin's, as far as models were asked."""
    cards = family.scorecards()
    table = Table(title="right about what was never seen (its blind twin)", title_justify="left")
    table.add_column("", no_wrap=True)
    for kind in dict.fromkeys(score.kind for card in cards.values() for score in card.scores):
        table.add_column(kind.replace("-", " "), justify="right")
    for name, card in cards.items():
        table.add_row(
            name.removesuffix(f"/{PRETRAINING}"),
            *(f"{one.accuracy:.0%} ({one.blind_accuracy:.0%})" for one in card.scores),
        )
    return table


def dry_run(config: HerdConfig) -> int:
    """Prints the road and what its pretraining needs; the exit code."""
    console, needs = Console(), needs_of(config)
    console.print(f"{config.name}: {' → '.join(stage.name for stage in plan(config))}", highlight=False)
    table = Table(title="pretraining, as text", title_justify="left")
    for heading in ("", *(one.member for one in needs)):
        table.add_column(heading, justify="right" if heading else "left")
    rows = {
        "parameters": [f"{one.num_parameters:,}" for one in needs],
        "active for a token of text": [f"{one.num_active:,}" for one in needs],
        "tokens": [f"{one.num_tokens:,}" for one in needs],
        "FLOPs": [f"{one.flops:.3g}" for one in needs],
        "weights, fp32": [_size(one.weight_bytes) for one in needs],
        "gradients, fp32": [_size(one.gradient_bytes) for one in needs],
        "optimizer": [_size(one.optimizer_bytes) for one in needs],
        "activations of a batch": [_size(one.activation_bytes) for one in needs],
    }
    for ranks in RANKS:
        rows[f"a rank of {ranks:,}"] = [_size(one.bytes_per_rank(ranks)) for one in needs]
    fitting = [one.fitting_ranks(RANK_GB * 10**9) for one in needs]
    rows[f"ranks of {RANK_GB} GB, at least"] = [f"{count:,}" if count else "none" for count in fitting]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)
    if None in fitting:
        console.print(
            "none: one batch's activations alone are more, as long as nothing of them is computed twice"
        )
    return 0


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _tell(console: Console, what: str, value: str) -> None:
    console.print(f"{what}: {value}", markup=False, highlight=False, soft_wrap=True)
