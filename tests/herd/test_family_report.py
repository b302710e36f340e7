"""The page of a herd: every member, digests, scores, cost, and links that lead somewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from camelid.cli import herd_view
from camelid.cli.family_report import write_family_report
from camelid.cli.herd_view import open_road_view, road_table
from camelid.herd import Family, HerdState, plan, travel
from camelid.inputs import ChatFormat
from camelid.testing import ScriptedGenerator, tiny_model
from camelid.train import StepMetrics
from herd.fake_stages import fake_runners, tiny_herd


def test_it_shows_everybody_with_digests_and_what_they_can_do(tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, width=100)
    with open_road_view(tiny_herd(), console) as view:
        folder = travel(tiny_herd(), run_root=tmp_path, watch=view, runners=fake_runners([]))
    family = Family.of(folder)
    page = write_family_report(family).read_text(encoding="utf-8")
    for record in family.state.stages:
        for digest in record.models.values():
            assert digest[:12] in page
        assert record.name in page
    for member in family.members:
        assert f"<b>{member}</b>" in page
    assert page.count("70% <small>(30%)</small>") == 7
    assert page.count("<th>count</th>") == 1
    assert '<td class="">-0.250</td>' not in page
    assert '<td class="">0.250</td>' in page, "student 2.0, teacher 1.75"
    links = re.findall(r'href="([^"]+)"', page)
    assert len(set(links)) == 13
    assert [link for link in links if not (folder.path / link).is_file()] == []
    assert "<script" not in page
    assert 'href="http' not in page
    assert "tiny-scout/sft: finished" in said.getvalue()
    assert_costs_add_up(family)


def assert_costs_add_up(family: Family) -> None:
    costs = family.costs()
    assert len(costs) == 13, "three in pretraining, five stages of two students"
    assert {(cost.num_steps, cost.num_tokens, cost.seconds) for cost in costs} == {(2, 200, 1.0)}
    scout = {cost.flops for cost in costs if cost.member == "tiny-scout"}
    assert len(scout) == 1
    assert scout.pop() > 0


def test_half_a_road_can_be_shown(tmp_path: Path) -> None:
    state = HerdState.new(tiny_herd()).changed("pretraining", status="finished", seconds=61.0)
    state = state.changed("tiny-scout/long-context", status="running")
    console = Console(width=100)
    with console.capture() as captured:
        console.print(road_table(state, 5.0, "3 of 9 asked"))
    lines = captured.get().splitlines()
    assert len(lines) == len(state.stages)
    assert re.search(r"pretraining +finished +1:01", lines[0])
    assert re.search(r"tiny-scout/long-context +running +0:05 +3 of 9 asked", lines[1])
    assert "waiting" in lines[2]


def test_members_are_asked_while_they_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herd_view, "Generator", lambda *_: ScriptedGenerator(["two", "two"]))
    said = io.StringIO()
    model = tiny_model("scout")
    step = StepMetrics(7, 0.5, 1.0, {"image": 1.0}, 0.0, 0.1, 1e-3, False, 100, 10.0, 2, 0.0, [], 25.0)
    with open_road_view(tiny_herd(), Console(file=said, width=100)) as view:
        view.meets("tiny-scout", model, ChatFormat.__new__(ChatFormat))
        for stage in plan(tiny_herd())[:2]:
            for observe in view.observers(stage, "tiny-scout"):
                observe(step)
    told = said.getvalue()
    assert told.count("tiny-scout, never seen before, asked at step 7:") == 1, "in pretraining alone"
    assert "[count-new-scene]" in told
