"""The demo and pretraining from the outside: what is shown, asked, written and said last."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from camelid.cli import herd_run, pretrain
from camelid.cli.interview import Interview
from camelid.cli.main import main
from camelid.cli.training_run import camelid_command
from camelid.core import ImagePart, Message
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.data.questions.problem import Problem
from camelid.eval import GalleryItem
from camelid.herd import travel
from camelid.recipes import RECIPES
from camelid.recipes.herd import HERD_RECIPES
from camelid.stages.pretrain import PretrainConfig
from camelid.testing import ScriptedGenerator, tiny_model
from herd.fake_stages import fake_runners, tiny_herd

StepMaker = Callable[..., Any]


class Stage:
    """Stands in for `pretrain`: three steps, no learning."""

    def __init__(self, step: StepMaker, status: str = "finished") -> None:
        self.configs: list[PretrainConfig] = []
        self.resumed: list[RunDir | None] = []
        self._step = step
        self._status: Any = status

    def __call__(
        self,
        config: PretrainConfig,
        *,
        run_root: Path,
        resume: RunDir | None = None,
        observers: Sequence[Callable[[Any], None]] = (),
    ) -> RunDir:
        self.configs.append(config)
        self.resumed.append(resume)
        run = resume or RunDir.create(run_root, "pretrain", config.preset, config)
        for number in (1, 2, 3):
            run.append_metrics(self._step(number).to_dict())
            for observe in observers:
                observe(self._step(number))
        run.set_status(self._status)
        return run


def test_the_demo_goes_a_herds_road_and_leaves_its_page_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(HERD_RECIPES, "demo", tiny_herd)
    monkeypatch.setattr(herd_run, "travel", partial(travel, runners=fake_runners([])))
    assert main(["demo"]) == 0
    told = capsys.readouterr().out
    (herd,) = (tmp_path / "runs").iterdir()
    assert "tiny-maverick/chatty" in told and "70% (30%)" in told
    assert f"camelid chat runs/{herd.name}/stages/" in told
    page = (tmp_path / "report.html").read_text()
    for link in re.findall(r'href="([^"]+)"', page):
        assert (tmp_path / link).is_file()
    assert page.count("<article") == 1
    assert page.count('<td class="right">two</td>') == 7, "everybody's answer on one card"
    assert RunDir(herd).report_path.is_file()


def test_an_interview_comes_once_in_a_while_and_leaves_training_as_it_was(
    step: StepMaker, picture_path: Path
) -> None:
    problem = Problem((Message.of("user", ImagePart(picture_path), "What is this?"),), "face", "name it")
    shown: list[tuple[Sequence[GalleryItem], str]] = []
    model = tiny_model("scout").train()
    talk = Interview(
        [problem],
        model,
        ScriptedGenerator(["a cat"]),
        lambda items, title: shown.append((items, title)),
        seconds_between=12.0,
    )
    for number in range(1, 14):
        talk(step(number))  # each takes two seconds
    assert [title for _, title in shown] == [
        f"never seen before, asked at step {number}: 0 of 1 right" for number in (6, 12)
    ]
    assert shown[0][0][0].answer == "a cat"
    assert model.training


def test_a_recipe_is_changed_by_flags() -> None:
    flags = pretrain.parse_flags(
        "nano-scout", ["--train.optimizer.lr", "0.5", "--data.batch-tokens", "99", "--run-root", "x"]
    )
    assert flags.config.train.optimizer.lr == 0.5
    assert flags.config.data.batch_tokens == 99
    assert flags.run_root == Path("x")
    assert pretrain.parse_flags("nano-scout", []).config == RECIPES["nano-scout"]()
    with pytest.raises(ConfigError, match="nano-scout"):
        pretrain.parse_flags("no-such", [])
    with pytest.raises(SystemExit):
        pretrain.parse_flags("nano-scout", ["--misspelt", "1"])


def test_pretraining_writes_a_report_and_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, step: StepMaker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stage = Stage(step, "interrupted")
    monkeypatch.setattr(pretrain, "pretrain", stage)
    assert main(["pretrain", "nano-scout", "--run-root", str(tmp_path)]) == 130
    (run_dir,) = tmp_path.iterdir()
    assert f"camelid pretrain --resume {run_dir}" in capsys.readouterr().out
    assert "<svg" in RunDir(run_dir).report_path.read_text()

    stage = Stage(step)
    monkeypatch.setattr(pretrain, "pretrain", stage)
    assert main(["pretrain", "--resume", str(run_dir)]) == 0
    assert stage.resumed == [RunDir(run_dir)]
    assert stage.configs[0].to_dict() == json.loads((run_dir / "config.json").read_text())


def test_without_a_recipe_the_recipes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain"]) == 0
    output = capsys.readouterr().out
    for name in RECIPES:
        assert name in output


def test_the_command_to_go_on_is_the_one_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Path.cwd() / ".venv" / "bin" / "camelid"
    monkeypatch.setattr("sys.argv", [str(program)])
    assert camelid_command("chat", "runs/x") == ".venv/bin/camelid chat runs/x"
    monkeypatch.setattr("sys.argv", ["pytest"])
    assert camelid_command("chat") == "camelid chat"
