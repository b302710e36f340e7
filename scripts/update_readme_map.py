"""Writes the README's file map: every source file with the first sentence of its docstring.

python scripts/update_readme_map.py            # rewrites README.md
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "camelid"
HEADING = "## File map\n"
SUFFIXES = (".py", ".cpp", ".h", ".html", ".css", ".js")
# As in the law of imports: who may know more stands above.
ROOMS = (
    "cli",
    "claims",
    "recipes",
    "herd",
    "stages",
    "serve",
    "train",
    "infer",
    "eval",
    "checkpoint",
    "quantize",
    "model",
    "data",
    "inputs",
    "ops",
    "core",
)


def first_line(path: Path) -> str:
    """The first line of a module's docstring, or of the comment at the top of other files."""
    if path.suffix != ".py":
        top = path.read_text(encoding="utf-8").removeprefix("<!doctype html>\n").partition("\n")[0]
        return re.sub(r"^(//|/\*|<!--) | (\*/|-->)$", "", top)
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def room_map(room: str) -> str:
    """A room's own line and a line per file."""
    found = (path for path in (PACKAGE / room).rglob("*") if path.suffix in SUFFIXES)
    files = sorted(path for path in found if path.name != "__init__.py")
    lines = [f"- `{path.relative_to(PACKAGE).as_posix()}` — {first_line(path)}" for path in files]
    return f"**{room}** — {first_line(PACKAGE / room / '__init__.py')}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Replaces all that follows the heading."""
    readme = ROOT / "README.md"
    before, heading, _ = readme.read_text(encoding="utf-8").partition(HEADING)
    assert heading, f"README.md has no line {HEADING!r}"
    rooms = "\n".join(room_map(room) for room in (*ROOMS, "testing"))
    legend = "A room imports only from rooms further down this list.\n"
    readme.write_text(f"{before}{HEADING}\n{legend}\n{rooms}", encoding="utf-8")


if __name__ == "__main__":
    main()
