"""`camelid herd` as typed, and the whole road for real on the smallest members there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from camelid.cli.herd_run import herd_config, resume_herd, start_herd
from camelid.cli.main import main
from camelid.herd import EvaluationConfig, Family
from camelid.recipes.herd import HERD_RECIPES, smoke
from camelid.stages.distill import CodistillConfig
from stages.tiny_pretrain import only_run


def test_recipes_are_listed_and_reckoned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["herd"]) == 0
    listed = capsys.readouterr().out
    assert [name for name in HERD_RECIPES if name not in listed] == []
    assert main(["herd", "smoke", "--dry-run"]) == 0
    assert "1,084,928" in capsys.readouterr().out
    assert main(["herd", "nonsense"]) == 2
    assert main(["herd", "scout"]) == 2, "no machine that runs tests has 25 TB"
    assert "1,992,647,303,680 parameters" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.skipif("CAMELID_WHOLE_ROAD" not in os.environ, reason="minutes on a busy machine; docs/herd.md")
@pytest.mark.timeout(900)
def test_the_whole_road_for_real_and_a_changed_recipe_is_refused(tmp_path: Path) -> None:
    recipe = smoke()
    assert recipe.long_context
    assert recipe.sft
    assert recipe.rl

    def short(part: Any, **changes: Any) -> Any:
        return part.replace(train=part.train.replace(steps=1), **changes)

    teacher, scout = recipe.pretraining.teacher, recipe.pretraining.students[0]

    config = recipe.replace(
        pretraining=CodistillConfig(short(teacher), (short(scout),)),
        long_context=short(recipe.long_context, length=256, tests=None),
        sft=short(recipe.sft),
        rl=short(recipe.rl, num_held_out=0, prompts_per_step=1, samples_per_prompt=2, max_answer_tokens=2),
        variants=(short(recipe.variants[1], num_pairs=2, pairs_per_step=1, num_held_out=0),),
        evaluation=EvaluationConfig(num_problems=1, kinds=("count-new-scene",), num_texts=1),
    )
    file = tmp_path / "mine.json"
    file.write_text(config.to_json())
    assert herd_config(str(file)) == config
    assert start_herd(config, tmp_path / "runs") == 0
    folder = only_run(tmp_path / "runs")
    assert folder is not None
    family = Family.of(folder)
    assert family.state.is_finished
    assert set(family.scorecards()) == {
        "pico-behemoth/pretraining",
        "pico-scout/pretraining",
        "pico-scout/chatty",
    }
    digests = [one.digest for one in family.descendants()]
    assert len(set(digests)) == len(digests) == 6
    assert "pico-scout/chatty" in folder.report_path.read_text(encoding="utf-8")
    assert resume_herd(folder.path, "") == 0
    with pytest.raises(ValueError, match="configured differently"):
        resume_herd(folder.path, "smoke")
