"""The numbers in docs/reliability.md are those that were measured."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_page_has_the_numbers_of_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    load_server = runpy.run_path(str(BENCHMARKS / "load_server.py"))
    result = json.loads(load_server["RESULT"].read_text(encoding="utf-8"))
    page = load_server["PAGE"].read_text(encoding="utf-8")
    assert load_server["with_numbers"](page, result) == page, "run benchmarks/load_server.py --write-docs"
