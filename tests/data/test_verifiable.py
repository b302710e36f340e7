"""Problems that check themselves: the same twice, split apart, and not to be fooled; and which of them are asked."""

from __future__ import annotations

import itertools
from functools import cache

import pytest

from camelid.core import Message, ToolCall, ToolDefinition
from camelid.core.errors import ConfigError
from camelid.data import StarterPack
from camelid.data.verifiable import (
    PoolConfig,
    PoolState,
    Prompt,
    PromptPool,
    Task,
    TaskExamples,
    open_tasks,
)
from camelid.data.verifiable.challenge import challenge_rng
from camelid.data.verifiable.tools import call_reward

PACK = StarterPack.open()
NAMES = ("count", "colour", "where", "relation", "motion", "name", "tools", "recall-8")


@cache
def open_one(name: str) -> Task:
    (task,) = open_tasks([name], PACK)
    return task


@pytest.mark.parametrize("name", NAMES)
def test_a_challenge_is_a_function_of_its_number_and_split(name: str) -> None:
    task = open_one(name)
    first, again = task.challenge(5), open_tasks([name], PACK)[0].challenge(5)
    assert first.messages[0].text == again.messages[0].text and first.answer == again.answer
    assert first.reward(first.answer.text) == 1.0
    answers = {
        split: [task.challenge(number, split).answer.text for number in range(6)]
        for split in ("train", "held_out")
    }
    assert answers["train"] != answers["held_out"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_the_answer_is_worth_nothing(name: str) -> None:
    challenge = open_one(name).challenge(3)
    truth = challenge.answer.text
    padded = (f"{truth} {truth}", f"It is {truth}", f"{truth}!", f"not {truth}", f"{truth}\nor anything else")
    for said in ("", " ", "\x00", "�", *padded, challenge.messages[-1].text):
        assert challenge.reward(said) == 0.0, said
    assert challenge.reward(f"  {truth}\n") == 1.0


CALL = ToolCall("double", {"n": 3})
TOOLS = (ToolDefinition("double"), ToolDefinition("square"))


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ('{"name": "double", "parameters": {"n": 3}}', 1.0),
        ("[double(n=3)]", 1.0),
        ('<function=double>{"n": 3}</function>', 1.0),
        ('{"name": "double", "parameters": {"n": "3"}}', 0.2),
        ('{"name": "double", "parameters": {"n": 3.0}}', 0.2),
        ('{"name": "double", "parameters": {"n": true}}', 0.2),
        ('{"name": "double", "parameters": {"n": 3, "m": 3}}', 0.2),
        ('{"name": "square", "parameters": {"n": 3}}', 0.2),
        ('{"name": "halve", "parameters": {"n": 3}}', 0.0),
        ('Sure! {"name": "double", "parameters": {"n": 3}}', 0.0),
        ("[double(n=3), double(n=3)]", 0.0),
        ('{"name": "double", "parameters": {"n": 3}', 0.0),
        ("double(n=3)", 0.0),
    ],
)
def test_only_the_wanted_call_alone_earns_all(said: str, reward: float) -> None:
    assert call_reward(said, CALL, TOOLS) == reward


def test_a_tool_that_is_offered_alone_would_need_no_reading() -> None:
    (task,) = open_tasks(["tools"])
    for number in range(20):
        lines = task.challenge(number).messages[0].text.splitlines()
        assert len(lines) == 4 and len(set(lines[1:3])) == 2


def test_recall_asks_for_one_of_many() -> None:
    (task,) = open_tasks(["recall-28"])
    challenge = task.challenge(0)
    listed, _, asked = challenge.messages[0].text.rpartition(". What is ")
    pairs = dict(pair.split(" is ") for pair in listed.split(", "))
    assert len(pairs) == 28 and pairs[asked.rstrip("?")] == challenge.answer.text


def test_puzzles_of_reasoning_gym() -> None:
    pytest.importorskip("reasoning_gym")
    for name in ("gym:chain_sum", "gym:spell_backward", "gym:letter_counting"):
        (task,) = open_tasks([name])
        challenge = task.challenge(1)
        assert challenge.reward(challenge.answer.text) == 1.0
        assert challenge.reward("no idea") < 0.5
        assert task.challenge(1, "held_out").messages != challenge.messages
    with pytest.raises(ConfigError, match="makes no nonsense"):
        open_tasks(["gym:nonsense"])


@pytest.mark.parametrize(
    "names", [["nothing"], ["recall-1"], ["recall-x"], ["recall-29"], [], ["tools", "tools"]]
)
def test_tasks_that_are_none(names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"no task|at least one and different"):
        open_tasks(names)


def test_challenges_are_examples_too() -> None:
    (task,) = open_tasks(["recall-3"])
    example = TaskExamples(task).example(4, challenge_rng("train", 0))
    challenge = task.challenge(4)
    assert example.messages == (*challenge.messages, challenge.answer)
    assert isinstance(challenge.answer, Message)


def test_too_easy_and_too_hard_prompts_are_asked_no_more_until_luck_brings_them_back() -> None:
    pool = PromptPool(1, PoolConfig(size=30, retry=0.02), seed=0)
    known = [Prompt(0, number) for number in range(20)]
    pool.note(known, [0.0] * 10 + [1.0] * 10)
    assert pool.share_outside == 1.0
    drawn = [prompt.number for _ in range(30) for prompt in pool.draw(5)]
    assert set(range(20, 30)) <= set(drawn)
    assert 0 < sum(number < 20 for number in drawn) < 0.2 * len(drawn)


def test_the_estimate_runs_with_the_model() -> None:
    pool = PromptPool(1, PoolConfig(size=1, memory=0.5), seed=0)
    prompt = Prompt(0, 0)
    for rate, estimate in ((0.0, 0.0), (1.0, 0.5), (1.0, 0.75)):
        pool.note([prompt], [rate])
        assert pool.state.rates["0:0"] == estimate
    assert pool.share_outside == 0.0


def test_a_pool_goes_on_where_its_state_says() -> None:
    config = PoolConfig(size=50)
    whole, first = (PromptPool(2, config, seed=3) for _ in range(2))
    for pool in (whole, first):
        for _ in range(3):
            pool.note(pool.draw(4), [0.0, 0.5, 1.0, 0.25])
    rest = PromptPool(2, config, 3, PoolState.from_json(first.state.to_json()))
    for _ in range(3):
        assert rest.draw(4) == whole.draw(4)
    tasks = {prompt.task for prompt in itertools.chain(*(whole.draw(4) for _ in range(5)))}
    assert tasks == {0, 1}


def test_pools_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="low < high"):
        PoolConfig(low=0.9, high=0.1)
    with pytest.raises(ConfigError, match="does not give 4 at once"):
        PromptPool(1, PoolConfig(size=3), seed=0).draw(4)
