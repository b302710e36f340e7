"""The demo and pretraining from the outside: what is shown, asked, written and said last."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from camelid.cli import demo, pretrain
from camelid.cli.gallery import GalleryItem
from camelid.cli.interview import Interview
from camelid.cli.main import main
from camelid.cli.training_run import camelid_command
from camelid.core import ImagePart, Message
from camelid.core.errors import ConfigError
from camelid.core.run_dir import RunDir
from camelid.data.questions.problem import Problem
from camelid.data.starter import StarterPack
from camelid.inputs import ChatFormat
from camelid.recipes import RECIPES
from camelid.stages.pretrain import PretrainConfig
from camelid.testing import ScriptedGenerator, tiny_model

StepMaker = Callable[..., Any]
NO_CHAT_FORMAT = ChatFormat.__new__(ChatFormat)


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
        on_start: Callable[..., None] = lambda *parts: None,
    ) -> RunDir:
        self.configs.append(config)
        self.resumed.append(resume)
        run = resume or RunDir.create(run_root, "pretrain", config.preset, config)
        on_start(run, tiny_model("scout"), NO_CHAT_FORMAT)
        for number in (1, 2, 3):
            run.append_metrics(self._step(number).to_dict())
            for observe in observers:
                observe(self._step(number))
        run.set_status(self._status)
        return run


@pytest.fixture
def problem(picture_path: Path) -> Problem:
    return Problem((Message.of("user", ImagePart(picture_path), "What is this?"),), "face", "name it")


@pytest.fixture
def staged_demo(monkeypatch: pytest.MonkeyPatch, step: StepMaker, problem: Problem, tmp_path: Path) -> Stage:
    stage = Stage(step)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "pretrain", stage)
    monkeypatch.setattr(demo, "problem_set", lambda name, pack, count: [problem] * count)
    monkeypatch.setattr(StarterPack, "open", lambda **_: StarterPack.__new__(StarterPack))
    model = ScriptedGenerator(["face"])
    monkeypatch.setattr(
        demo, "Interview", lambda *parts: Interview(*parts, 0.0, completer_for=lambda *_: model)
    )
    return stage


def test_the_demo_trains_asks_reports_and_says_how_to_go_on(
    staged_demo: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["demo", "--minutes", "0.5"]) == 0
    assert staged_demo.configs[0].train.max_minutes == 0.5
    output = capsys.readouterr().out
    assert "never seen before, asked at step 2: 4 of 4 right" in output
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert output.splitlines()[-1] == f"camelid chat runs/{run_dir.name}"
    page = (tmp_path / "report.html").read_text()
    assert page == RunDir(run_dir).report_path.read_text()
    assert page.count("<article") == demo.NUM_FINAL * len(demo.PROBLEM_SETS)
    assert f"<th>name unseen style</th><td>{demo.NUM_FINAL} of {demo.NUM_FINAL}</td>" in page


def test_an_interview_comes_once_in_a_while_and_leaves_training_as_it_was(
    step: StepMaker, problem: Problem
) -> None:
    shown: list[tuple[Sequence[GalleryItem], str]] = []
    now = [0.0]
    model = tiny_model("scout").train()
    talk = Interview(
        [problem],
        lambda items, title: shown.append((items, title)),
        60.0,
        completer_for=lambda *_: ScriptedGenerator(["a cat"]),
        clock=lambda: now[0],
    )
    talk.on_start(RunDir(Path()), model, NO_CHAT_FORMAT)
    for number in range(1, 14):
        now[0] += 10.0
        talk.on_step(step(number))
    assert [title for _, title in shown] == [
        f"never seen before, asked at step {number}: 0 of 1 right" for number in (6, 12)
    ]
    assert shown[0][0][0].answer == "a cat"
    assert model.training


def test_a_recipe_is_changed_by_flags() -> None:
    flags = pretrain.parse_flags(
        "demo", ["--train.optimizer.lr", "0.5", "--data.batch-tokens", "99", "--run-root", "x"]
    )
    assert flags.config.train.optimizer.lr == 0.5
    assert flags.config.data.batch_tokens == 99
    assert flags.run_root == Path("x")
    assert pretrain.parse_flags("demo", []).config == RECIPES["demo"]()
    with pytest.raises(ConfigError, match="demo, nano-scout"):
        pretrain.parse_flags("no-such", [])
    with pytest.raises(SystemExit):
        pretrain.parse_flags("demo", ["--misspelt", "1"])


def test_pretraining_writes_a_report_and_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, step: StepMaker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stage = Stage(step, "interrupted")
    monkeypatch.setattr(pretrain, "pretrain", stage)
    assert main(["pretrain", "demo", "--run-root", str(tmp_path)]) == 130
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
