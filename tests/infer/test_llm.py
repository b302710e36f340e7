"""Many prompts at once, conversations and streams, against one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from camelid.checkpoint import save_model
from camelid.core import Message, MessageCompleter, SamplingParams
from camelid.core.errors import InputError
from camelid.infer import LLM, Generator
from camelid.infer.engine import EngineConfig
from camelid.inputs import ChatFormat
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_model
from tiny_engines import tokenizer

QUESTION = [Message.of("system", "Be brief."), Message.of("user", "Is a camel a horse?")]
SAMPLING = SamplingParams(max_tokens=20)


def llm(dtype: torch.dtype = torch.float32, **settings: int) -> LLM:
    model = tiny_model(max_position_embeddings=512).to(dtype)
    chat_format = ChatFormat.for_model(tokenizer(), None)
    return LLM(model, chat_format, cache_bytes=10**7, config=EngineConfig(**settings))


def test_the_generator_says_the_same() -> None:
    slow = Generator(tiny_model(max_position_embeddings=512), ChatFormat.for_model(tokenizer(), None))
    fast = llm()
    assert isinstance(fast, MessageCompleter)
    expected = slow.complete(QUESTION, SAMPLING)
    assert fast.complete(QUESTION, SAMPLING) == expected
    assert "".join(fast.stream(QUESTION, SAMPLING)) == expected.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_thousand_prompts(dtype: torch.dtype, capsys: pytest.CaptureFixture[str]) -> None:
    """More than may wait or run at once; answers come in the order of the questions."""
    many = llm(dtype, max_running=16, max_waiting=8)
    prompts = [f"prompt {index % 7}" for index in range(100)]
    answers = many.generate(prompts, SamplingParams(max_tokens=3), shows_progress=True)
    assert "100/100" in capsys.readouterr().out
    alone = {
        prompt: llm(dtype).generate([prompt], SamplingParams(max_tokens=3))[0].text for prompt in set(prompts)
    }
    assert [answer.text for answer in answers] == [alone[prompt] for prompt in prompts]


def test_a_refused_prompt_leaves_nothing_behind() -> None:
    small = llm()
    with pytest.raises(InputError, match="the prompt has 600 tokens, the context is 512"):
        small.generate(["short", "x" * 600])
    assert not small.engine.has_work
    assert len(small.generate(["short"], SAMPLING)[0].token_ids) == 20


def test_stop_strings() -> None:
    whole = llm().generate(["a camel"], SAMPLING)[0].text
    stop = whole[5:8]
    (cut,) = llm().generate(["a camel"], SAMPLING.replace(stop=(stop,)))
    assert cut.text == whole[: whole.find(stop)] and cut.finish_reason == "stop"


def test_leaving_a_stream() -> None:
    one = llm()
    stream = one.stream(QUESTION, SamplingParams(max_tokens=100))
    next(stream)
    stream.close()
    assert not one.engine.has_work and one.engine.stats.num_cancelled == 1


def test_from_a_folder(tmp_path: Path) -> None:
    model = tiny_model(max_position_embeddings=512)
    save_model(model, tmp_path, torch.float32, NUM_SPECIAL_TOKENS)
    tokenizer().save(tmp_path / "tokenizer.model")
    loaded = LLM.load(tmp_path, cache_bytes=10**7)
    assert (
        loaded.engine.max_context == 512 and loaded.complete(QUESTION, SAMPLING).usage.completion_tokens <= 20
    )
