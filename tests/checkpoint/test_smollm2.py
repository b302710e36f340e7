"""A real language model out of a GGUF file: bits, logits and probabilities against transformers' own reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from camelid.checkpoint.chat_files import chat_files
from camelid.checkpoint.dense_layout import dense_name_to_hf, rows_to_hf
from camelid.core import Message, SamplingParams
from camelid.infer import Generator

LOGIT_TOLERANCE = 1e-4  # measured: 6.9e-5 on logits up to 42, fp32
PROBABILITY_TOLERANCE = 1e-5  # measured: 5.2e-6

CONVERSATIONS = [
    [Message.of("user", "What is the capital of France?")],
    [
        Message.of("system", "Answer in one word."),
        Message.of("user", "Which animal carries loads in a desert?"),
    ],
    [
        Message.of("user", "Was ist 17 + 25?"),
        Message.of("assistant", "42"),
        Message.of("user", "Und mal zwei? 🐪"),
    ],
    [Message.of("user", "def fibonacci(n):\n    if n < 2:\n        return n\n\nFinish this function.")],
    [Message.of("user", "The camel said, “I carry 1,234 dates.”   How many does it carry?\n" * 12)],
]

logging.disable_progress_bar()


@pytest.fixture(scope="module")
def theirs(smollm2_path: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(
        smollm2_path.parent, gguf_file=smollm2_path.name, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def ours(smollm2_path: Path) -> Generator:
    return Generator.load(smollm2_path)


def test_every_weight_has_the_same_bits(theirs: PreTrainedModel, ours: Generator) -> None:
    state = theirs.state_dict()
    head_dim = ours.model.config.text.head_dim
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(rows_to_hf(name, tensor, head_dim), state[dense_name_to_hf(name)]), name
    assert len(ours.model.state_dict()) == 272


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["capital", "desert", "sums", "code", "long"])
@torch.no_grad()
def test_next_token_probabilities_are_those_of_transformers(
    theirs: PreTrainedModel, ours: Generator, messages: list[Message]
) -> None:
    """Logits of every position, and the probabilities of what follows."""
    token_ids = ours.chat_format.encode(messages, for_generation=True).token_ids
    found = ours.model.logits(ours.model(token_ids).hidden)
    expected = theirs(token_ids[None]).logits[0]
    torch.testing.assert_close(found, expected, atol=LOGIT_TOLERANCE, rtol=0)
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1), atol=PROBABILITY_TOLERANCE, rtol=0)


def test_greedy_answers_are_the_same(theirs: PreTrainedModel, ours: Generator) -> None:
    prompt = ours.chat_format.encode(CONVERSATIONS[1], for_generation=True).token_ids
    expected = theirs.generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt[None]),
        max_new_tokens=16,
        do_sample=False,
        pad_token_id=2,
    )[0, len(prompt) :]
    completion = ours.complete(CONVERSATIONS[1], SamplingParams(max_tokens=16))
    assert completion.token_ids == tuple(expected[expected != 2].tolist())
    assert "Paris" in ours.complete(CONVERSATIONS[0], SamplingParams(max_tokens=16)).text


def test_transformers_reads_the_tokenizer_that_we_write(
    ours: Generator, smollm2_path: Path, tmp_path: Path
) -> None:
    """The whole conversation as its template renders and encodes it."""
    for name, text in chat_files(smollm2_path, ours.model.config).items():
        assert isinstance(text, str)
        (tmp_path / name).write_text(text, encoding="utf-8")
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token_id) == (
        "<|im_start|>",
        "<|im_end|>",
        2,
    )
    assert ours.tokenizer.stop_ids == (0, 2)
    for messages in CONVERSATIONS:
        turns = [{"role": message.role, "content": message.text} for message in messages]
        expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert ours.chat_format.encode(messages, for_generation=True).token_ids.tolist() == expected
