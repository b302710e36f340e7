"""Generation against a loop without a cache, streams against whole answers, and every way to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from camelid.checkpoint import save_model
from camelid.core import (
    Batch,
    DocumentScorer,
    ImagePart,
    Message,
    MessageCompleter,
    ModelInput,
    SamplingParams,
    TextPart,
)
from camelid.core.errors import InputError
from camelid.infer import Generator
from camelid.inputs import ChatFormat, Tokenizer
from camelid.model import Llama4
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, TinyKind, tiny_model

QUESTION = [Message.of("system", "Be brief."), Message.of("user", "Is a camel a horse?")]
PICTURE = Image.radial_gradient("L").resize((16, 32)).convert("RGB")
LOOK = [Message.of("user", "See ", ImagePart(PICTURE), " and ", ImagePart(PICTURE.rotate(90)), "?")]


def byte_tokenizer() -> Tokenizer:
    return Tokenizer({bytes([value]): value for value in range(256)}, NUM_SPECIAL_TOKENS)


def generator_for(model: Llama4) -> Generator:
    return Generator(model, ChatFormat.for_model(byte_tokenizer(), model.config.vision))


def endless(generator: Generator) -> Generator:
    """The same generator without a token that ends its answers."""
    generator.tokenizer.stop_ids = ()
    return generator


@pytest.fixture
def generator() -> Generator:
    """A tiny model that sees; what it says is random bytes, few of them whole characters."""
    return generator_for(tiny_model(vision=True))


@torch.no_grad()
def greedy_without_cache(model: Llama4, prompt: ModelInput, count: int) -> list[int]:
    """All tokens are read again for each new one."""
    ids = prompt.token_ids
    for _ in range(count):
        hidden = model(ids, None, prompt.tiles, prompt.patch_positions).hidden
        ids = torch.cat([ids, model.logits(hidden[-1]).argmax(-1, keepdim=True)])
    return ids[len(prompt) :].tolist()


@pytest.mark.parametrize("messages", [QUESTION, LOOK], ids=["text", "two pictures"])
def test_greedy_is_the_argmax_loop(kind: TinyKind, messages: list[Message]) -> None:
    """40 tokens cross two borders of chunks at least."""
    generator = endless(generator_for(tiny_model(kind, vision=True)))
    prompt = generator.chat_format.encode(messages, for_generation=True)
    completion = generator.complete(messages, SamplingParams(max_tokens=40))
    assert list(completion.token_ids) == greedy_without_cache(generator.model, prompt, 40)
    assert completion.finish_reason == "length"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (len(prompt), 40)


@pytest.mark.parametrize("seed", range(2))
def test_a_stream_joins_to_the_whole_answer(generator: Generator, seed: int) -> None:
    sampling = SamplingParams(max_tokens=60, temperature=1.0, seed=seed)
    pieces = list(endless(generator).stream(QUESTION, sampling))
    assert len(pieces) > 10
    assert all(pieces)
    whole = generator.complete(QUESTION, sampling)
    assert "".join(pieces) == whole.text == generator.tokenizer.decode(whole.token_ids)


def test_characters_are_never_halved(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bytes of a camel, a lone first half of an accent at the end."""
    ids = [*"a🐫é".encode(), 0xC3]
    monkeypatch.setattr(generator, "_token_ids", lambda prompt, sampling: iter(ids))
    assert list(generator.stream(QUESTION, SamplingParams())) == ["a", "🐫", "é", "�"]
    assert generator.complete(QUESTION, SamplingParams()).text == "a🐫é�"


def test_a_stop_token_ends_the_answer_and_is_no_part_of_it(generator: Generator) -> None:
    sampling = SamplingParams(max_tokens=30, temperature=1.0)
    free = endless(generator).complete(QUESTION, sampling).token_ids
    end = 12
    assert free[end] not in free[:end]
    generator.tokenizer.stop_ids = (free[end],)
    stopped = generator.complete(QUESTION, sampling)
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free[:end]
    assert stopped.usage.completion_tokens == end + 1
    assert "".join(generator.stream(QUESTION, sampling)) == stopped.text


def test_the_stop_tokens_are_the_formats(generator: Generator) -> None:
    special = generator.tokenizer.special
    assert set(generator.tokenizer.stop_ids) == {special("end_of_text"), special("eot"), special("eom")}


def test_an_answer_may_be_empty(generator: Generator) -> None:
    (first,) = endless(generator).complete(QUESTION, SamplingParams(max_tokens=1)).token_ids
    generator.tokenizer.stop_ids = (first,)
    completion = generator.complete(QUESTION, SamplingParams())
    assert (completion.text, completion.token_ids, completion.finish_reason) == ("", (), "stop")
    assert list(generator.stream(QUESTION, SamplingParams())) == []


def test_the_context_ends_an_answer_too() -> None:
    generator = endless(generator_for(tiny_model(max_position_embeddings=64)))
    completion = generator.complete(QUESTION, SamplingParams(max_tokens=1000))
    assert completion.usage.prompt_tokens < 64
    assert completion.usage.prompt_tokens + completion.usage.completion_tokens == 64
    assert completion.finish_reason == "length"


def test_prompts_longer_than_the_context_are_refused() -> None:
    generator = generator_for(tiny_model(max_position_embeddings=64))
    used = len(generator.chat_format.encode([Message.of("user", "")], for_generation=True))
    full = [Message.of("user", "x" * (64 - used))]
    with pytest.raises(InputError, match="the prompt has 64 tokens, the context is 64"):
        generator.complete(full, SamplingParams())
    with pytest.raises(InputError, match="the prompt has 64 tokens, the context is 64"):
        next(generator.stream(full, SamplingParams()))
    almost = [Message.of("user", "x" * (63 - used))]
    assert generator.complete(almost, SamplingParams()).usage.completion_tokens == 1


def test_the_seed_decides_and_nothing_else_does(generator: Generator) -> None:
    sampling = SamplingParams(max_tokens=20, temperature=1.0, seed=3)
    first = generator.complete(QUESTION, sampling)
    state = torch.get_rng_state()
    torch.rand(5)
    assert generator.complete(QUESTION, sampling) == first
    assert generator.complete(QUESTION, sampling.replace(seed=4)) != first
    torch.set_rng_state(state)
    generator.complete(QUESTION, sampling)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's draws were taken"


def test_what_nobody_reads_is_not_computed(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One forward pass per token, and none after the last."""
    lengths: list[int] = []
    forward = generator.model.forward
    monkeypatch.setattr(
        generator.model, "forward", lambda ids, *rest: (lengths.append(len(ids)), forward(ids, *rest))[1]
    )
    prompt = len(generator.chat_format.encode(QUESTION, for_generation=True))
    endless(generator).complete(QUESTION, SamplingParams(max_tokens=3))
    assert lengths == [prompt, 1, 1]


@pytest.mark.parametrize("text", ["", "A camel can drink 100 litres in ten minutes. 🐫"])
@torch.no_grad()
def test_nats_of_a_document_are_those_that_training_sums(generator: Generator, text: str) -> None:
    """Every token but the first, and the end."""
    batch = Batch.pack([generator.chat_format.encode_document([TextPart(text)])])
    logits = generator.model.logits(generator.model(batch.token_ids).hidden)
    losses = F.cross_entropy(logits, batch.target_ids, reduction="none")
    expected = float((losses * batch.loss_weights).sum())
    assert batch.num_valid_tokens == len(text.encode()) + 1
    assert generator.document_nats(text) == pytest.approx(expected, rel=1e-5)


def test_a_model_can_be_asked_before_and_while_it_learns(generator: Generator) -> None:
    """Inference mode leaves nothing behind that autograd refuses."""
    model = generator.model.train()
    answer = generator.complete(LOOK, SamplingParams(max_tokens=4))
    batch = Batch.pack([generator.chat_format.encode(LOOK)])
    for _ in range(2):
        output = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
        output.hidden.square().mean().backward()
        assert generator.complete(LOOK, SamplingParams(max_tokens=4)) == answer
    assert all(
        p.grad is not None and p.grad.isfinite().all() for n, p in model.named_parameters() if "head" not in n
    )
    assert model.training


def test_a_folder_answers_as_the_model_did(generator: Generator, tmp_path: Path) -> None:
    save_model(generator.model, tmp_path, torch.float32, NUM_SPECIAL_TOKENS)
    byte_tokenizer().save(tmp_path / "tokenizer.model")
    loaded = Generator.load(tmp_path)
    sampling = SamplingParams(max_tokens=8)
    for messages in (QUESTION, LOOK):
        assert loaded.complete(messages, sampling) == generator.complete(messages, sampling)


def test_judges_may_ask_it(generator: Generator) -> None:
    assert isinstance(generator, MessageCompleter)
    assert isinstance(generator, DocumentScorer)
