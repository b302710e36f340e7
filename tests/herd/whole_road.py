"""The whole road for real, a step a stage, on the smallest members there are: `python whole_road.py FOLDER`.

Minutes on a busy machine, so no test of every day.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from camelid.cli.herd_run import herd_config, resume_herd, start_herd
from camelid.herd import EvaluationConfig, Family
from camelid.recipes.herd import smoke
from camelid.stages.distill import CodistillConfig
from stages.tiny_pretrain import only_run


def go_the_whole_road(tmp_path: Path) -> None:
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


if __name__ == "__main__":
    go_the_whole_road(Path(sys.argv[1]))
