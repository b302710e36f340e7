"""The README's numbers are those that were measured."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_are_those_of_the_measurements() -> None:
    with_tables = runpy.run_path(str(ROOT / "scripts" / "update_readme_numbers.py"))["with_tables"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_tables(readme) == readme, "run scripts/update_readme_numbers.py"
