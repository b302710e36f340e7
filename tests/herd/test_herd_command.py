"""`camelid herd` as typed."""

from __future__ import annotations

import pytest

from camelid.cli.main import main
from camelid.recipes.herd import HERD_RECIPES


def test_recipes_are_listed_and_reckoned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["herd"]) == 0
    listed = capsys.readouterr().out
    assert [name for name in HERD_RECIPES if name not in listed] == []
    assert main(["herd", "smoke", "--dry-run"]) == 0
    assert "1,084,928" in capsys.readouterr().out
    assert main(["herd", "nonsense"]) == 2
    assert main(["herd", "scout"]) == 2, "no machine that runs tests has 25 TB"
    assert "1,992,647,303,680 parameters" in capsys.readouterr().err.replace("\n", " ")
