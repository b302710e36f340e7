"""`camelid experts` on the shipped weights, a few examples of each source; its figure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pyarrow.parquet
import pytest

from camelid.cli.experts import maps_of, show_experts
from camelid.cli.main import main
from camelid.cli.report_plots import expert_maps, standalone
from camelid.infer.locate import SHIPPED_MODEL
from camelid.testing.tiny import tiny_model
from camelid.train.routing_trace import trace_routing
from camelid.train.specialisation import Specialisation
from train.toy_training import toy_batch, toy_model


def test_what_it_says_and_what_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compared with itself as the earlier checkpoint, all choices have stayed."""
    show_experts(SHIPPED_MODEL, tmp_path / "out", 4, earlier=SHIPPED_MODEL)
    said = capsys.readouterr().out
    report = Specialisation.load(tmp_path / "out" / "experts.json")
    assert f"16 experts over {report.num_tokens:,} tokens of" in said
    assert {"naming", "scenes", "clips", "motion", "which_of", "glosses", "prose"} == set(report.domains)
    assert set(report.modalities) == {"text", "image", "video"}
    assert [layer.saturation for layer in report.layers] == [1.0] * 4
    assert all(0 < sum(layer.gate_mean) / 16 < 1 for layer in report.layers)
    # Measured on many examples: 0.65 and 0.41 in layer 2.
    assert report.layers[2].information["patch"].of_attribute > 0.3
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "counts.parquet")
    assert rows.column_names == ["layer", "attribute", "value", "expert", "count"]
    svg = (tmp_path / "out" / "experts.svg").read_text(encoding="utf-8")
    assert "source: prose" in svg and "prefers-color-scheme:dark" in svg
    ET.fromstring(svg)
    assert json.loads((tmp_path / "out" / "experts.json").read_text())["schema"] == "experts/1"


def test_maps_are_multiples_of_a_fair_share() -> None:
    maps = maps_of(trace_routing(toy_model(), [toy_batch(0)]))
    assert list(maps) == ["text", "image", "text tokens", "patch tokens", "source: "]
    assert all(sum(row) == pytest.approx(4) for rows in maps.values() for row in rows)
    many = {f"map {number}": [[1.0] * 128] * 48 for number in range(9)}
    assert standalone(expert_maps(many, range(48))).count("map ") == 9


def test_a_model_without_experts_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(layer_types=("chunked", "global"), moe_layers=())
    monkeypatch.setattr("camelid.cli.experts.load_model", lambda directory: model)
    assert main(["experts", str(SHIPPED_MODEL), "--out", str(tmp_path / "out")]) == 2
    assert "has no experts to look at" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
