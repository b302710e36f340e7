"""The order of the road, going on after a kill anywhere, and refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from camelid.core import Config
from camelid.core.errors import ConfigError, TrainingError
from camelid.herd import Family, HerdState, plan, travel
from camelid.stages.rl import RlConfig
from camelid.stages.sft import SftConfig
from herd import fake_stages
from herd.fake_stages import fake_runners, go, tiny_herd
from stages.tiny_pretrain import only_run

Made = list[tuple[str, bool, Config]]
NAMES = [stage.name for stage in plan(tiny_herd())]


def test_the_plan_is_pretraining_then_student_by_student_then_everybody_is_asked() -> None:
    bases = {stage.name: stage.base for stage in plan(tiny_herd())}
    assert list(bases)[:6] == [
        "pretraining",
        "tiny-scout/long-context",
        "tiny-scout/sft",
        "tiny-scout/rl",
        "tiny-scout/instruct",
        "tiny-scout/chatty",
    ]
    assert bases["tiny-scout/long-context"] == "pretraining"
    assert bases["tiny-scout/instruct"] == bases["tiny-scout/chatty"] == "tiny-scout/rl"
    assert [name for name in bases if name.endswith("/eval")] == NAMES[11:]
    assert NAMES[11:14] == [
        "tiny-behemoth/pretraining/eval",
        "tiny-scout/pretraining/eval",
        "tiny-scout/instruct/eval",
    ]


def test_what_is_none_is_left_out() -> None:
    config = tiny_herd().replace(long_context=None, rl=None, variants=(), evaluation=None)
    stages = [(stage.name, stage.base) for stage in plan(config)]
    assert stages == [
        ("pretraining", ""),
        ("tiny-scout/sft", "pretraining"),
        ("tiny-maverick/sft", "pretraining"),
    ]


def test_each_goes_on_with_what_the_last_one_left_and_is_made_once(tmp_path: Path) -> None:
    made: Made = []
    folder = go(tmp_path, fake_runners(made))
    assert [name for name, _, _ in made] == NAMES
    configs = {name: config for name, _, config in made}
    state = HerdState.load(folder.herd_path)
    assert state.is_finished
    sft, rl = configs["tiny-maverick/sft"], configs["tiny-maverick/rl"]
    assert isinstance(sft, SftConfig) and isinstance(rl, RlConfig)
    left = state.model_dir(folder, "tiny-maverick/long-context", "tiny-maverick")
    assert Path(sft.base) == left
    assert Path(rl.teacher) == state.model_dir(folder, "pretraining", "tiny-behemoth")
    assert len(set(state["pretraining"].models.values())) == 3
    go(tmp_path, fake_runners(made))
    assert len(made) == len(NAMES), "finished stages are skipped"


@pytest.mark.parametrize(
    ("stage", "moment", "is_resumed"),
    [
        ("tiny-scout/sft", "inside", True),
        ("tiny-scout/rl", "end", True),
    ],
)
def test_killed_and_gone_on(tmp_path: Path, stage: str, moment: str, is_resumed: bool) -> None:
    command = [sys.executable, str(fake_stages.__file__), str(tmp_path), stage, moment]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    folder = only_run(tmp_path)
    assert folder is not None
    assert HerdState.load(folder.herd_path)[stage].status == "running"
    made: Made = []
    go(tmp_path, fake_runners(made))
    assert [name for name, _, _ in made] == NAMES[NAMES.index(stage) :]
    assert made[0][1] == is_resumed
    assert folder.status()["status"] == "finished"


def test_a_failure_is_written_down_and_tried_again(tmp_path: Path) -> None:
    def fail(stage: str, moment: str) -> None:
        if stage == "tiny-scout/rl":
            raise TrainingError("no two answers")

    with pytest.raises(TrainingError, match="no two answers"):
        go(tmp_path, fake_runners([], fail))
    folder = only_run(tmp_path)
    assert folder is not None
    assert folder.status()["status"] == "failed"
    assert HerdState.load(folder.herd_path)["tiny-scout/rl"].status == "failed"
    assert Family.of(folder).costs(), "half a family can be read"
    go(tmp_path, fake_runners([]))
    assert HerdState.load(folder.herd_path).is_finished


def test_a_changed_configuration_is_refused_with_both_digests(tmp_path: Path) -> None:
    folder = go(tmp_path, fake_runners([]))
    config = tiny_herd()
    other = config.replace(sft=None)
    with pytest.raises(ConfigError, match=f"{config.digest[:12]}.*{other.digest[:12]}"):
        travel(other, resume=folder, runners=fake_runners([]))
    folder.config_path.write_text(json.dumps(other.to_dict()))
    with pytest.raises(ConfigError, match=f"{config.digest[:12]}.*{other.digest[:12]}"):
        travel(other, resume=folder, runners=fake_runners([]))


def test_a_base_in_the_numbers_is_refused() -> None:
    config = tiny_herd()
    with pytest.raises(ConfigError, match="SftConfig names the base 'x'"):
        config.replace(sft=SftConfig("x", (), tasks=("where",)))
    with pytest.raises(ConfigError, match="different names"):
        config.replace(variants=config.variants * 2)
