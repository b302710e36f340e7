"""Many requests at once must each give what they give alone, and leave nothing behind."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from PIL import Image

from camelid.core import ImagePart, Message, ModelInput, SamplingParams, TextPart
from camelid.core.errors import InputError
from camelid.infer.cache_plan import plan_cache
from camelid.infer.engine import EngineConfig
from camelid.infer.request import QueueFull, Request
from camelid.inputs import ChatFormat
from camelid.model import KVCache
from camelid.testing.tiny import TinyKind, tiny_model
from tiny_engines import engine, ids, request, run, tokenizer

LONG = 200  # tokens of the longest prompts: some pages, and chunks of 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_greedy_is_the_models_own(kind: TinyKind, dtype: torch.dtype) -> None:
    """Against a plain loop over `Llama4.forward`; in bf16 the likeliest token may differ where logits nearly tie."""
    one = request("one", LONG, temperature=0.0, max_tokens=40)
    (events,) = run(engine(kind, dtype, config=EngineConfig(step_tokens=50)), one).values()
    model = tiny_model(kind, attention_chunk_size=64)
    cache, unread, agreed = KVCache(model.config.text), one.prompt.token_ids, 0
    for token_id in ids(events):
        logits = model.logits(model(unread, cache=cache).hidden[-1])
        agreed += int(logits.argmax()) == token_id
        unread = torch.tensor([token_id])
    assert agreed == 40 or (dtype == torch.bfloat16 and agreed >= 36)
    assert events[-1].finish_reason == "length" and events[-1].usage is not None
    assert (events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens) == (LONG, 40)


@pytest.mark.parametrize("chunk", [16, 64])
def test_company_changes_nothing(kind: TinyKind, chunk: int) -> None:
    """Alone, in a crowd, preempted for want of pages, in small steps, from a warm cache: one answer."""
    many = [request(f"r{i}", length, i) for i, length in enumerate((1, 3, 64, 65, LONG, 17, 130, 90))]
    alone = {one.id: ids(run(engine(kind, chunk=chunk), one)[one.id]) for one in many}
    assert len({tuple(answer) for answer in alone.values()}) == len(many)
    crowd = engine(kind, chunk=chunk)
    assert {name: ids(events) for name, events in run(crowd, *many).items()} == alone
    again = run(crowd, *many)
    assert {name: ids(events) for name, events in again.items()} == alone
    assert crowd.stats.cached_prompt_tokens == (0 if chunk == 16 else 64 * (1 + 3 + 2 + 1))
    poor = engine(kind, pages=5, config=EngineConfig(step_tokens=16), chunk=chunk)
    assert {name: ids(events) for name, events in run(poor, *many).items()} == alone
    for used in (crowd, poor):
        assert used.stats.pages_free == used.stats.pages_total


def test_preemption() -> None:
    """Two answers outgrow four pages: the later one waits, and both are whole."""
    both = [request(name, 60, seed, max_tokens=150) for seed, name in enumerate(("first", "second"))]
    alone = {one.id: ids(run(engine(), one)[one.id]) for one in both}
    poor = engine(pages=5)
    assert {name: ids(events) for name, events in run(poor, *both).items()} == alone
    assert poor.stats.num_preempted > 0


def test_urgent_requests_go_first() -> None:
    busy = engine(config=EngineConfig(max_running=1))
    events: list[str] = []
    busy.add(request("slow", 10, max_tokens=30))
    for _ in range(5):
        busy.step()
    busy.add(request("later", 10, 1, max_tokens=3))
    busy.add(request("urgent", 10, 2, priority=-1, max_tokens=3))
    while busy.has_work:
        events += [event.request_id for event in busy.step() if event.finish_reason]
    assert events == ["urgent", "slow", "later"] and busy.stats.num_preempted == 1


def test_cancelling_frees_at_once() -> None:
    used = engine()
    for name in ("running", "other", "waiting"):
        used.add(request(name, LONG, max_tokens=50))
        if name != "waiting":
            used.step()
    assert used.cancel("running") and used.cancel("waiting") and not used.cancel("running")
    assert used.stats.num_running + used.stats.num_waiting == 1
    assert used.cancel("other")
    assert used.stats.pages_free == used.stats.pages_total and not used.has_work and used.step() == []


def test_the_context_that_is_stated() -> None:
    """A prompt that leaves room for one token is answered, one longer is refused, and answers end at the border."""
    small = engine(pages=3)
    assert small.max_context == 192
    (events,) = run(small, request("full", 191)).values()
    assert len(events) == 1 and events[0].finish_reason == "length"
    (events,) = run(small, request("nearly", 185, max_tokens=1000)).values()
    assert len(events) == 7
    with pytest.raises(InputError, match="the prompt has 192 tokens, the context is 192"):
        small.add(request("more", 192))
    with pytest.raises(InputError, match="the prompt has 0 tokens"):
        small.add(request("none", 0))
    small.add(request("twice", 5))
    with pytest.raises(InputError, match="'twice' is running"):
        small.add(request("twice", 5))


def test_back_pressure() -> None:
    full = engine(config=EngineConfig(max_running=1, max_waiting=2))
    for name in "ab":
        full.add(request(name, 5))
    with pytest.raises(QueueFull, match="2 requests are waiting"):
        full.add(request("c", 5))
    full.step()
    full.add(request("c", 5))


def test_pictures_are_shared_only_with_themselves() -> None:
    """The same patch tokens of another picture are another beginning."""
    seeing = engine(vision=True)
    chat_format = ChatFormat.for_model(tokenizer(), tiny_model(vision=True).config.vision)
    picture = Image.radial_gradient("L").resize((16, 32)).convert("RGB")

    def look(name: str, shown: Image.Image) -> Request:
        parts = ("See ", *[ImagePart(shown)] * 6, "What is it?")
        return Request(name, chat_format.encode([Message.of("user", *parts)], for_generation=True))

    first, same, other = (
        run(seeing, look(name, shown))[name]
        for name, shown in (("first", picture), ("same", picture), ("other", picture.rotate(90)))
    )
    cached = [events[-1].usage.cached_tokens for events in (first, same, other) if events[-1].usage]
    assert cached[0] == 0 and cached[1] >= 64 and cached[2] < cached[1]
    assert ids(first) == ids(same) and ids(other) == ids(
        run(engine(vision=True), look("x", picture.rotate(90)))["x"]
    )


def test_a_conversation_goes_on_from_its_pages() -> None:
    """What was generated is a beginning too."""
    used = engine()
    first = request("first", 100, max_tokens=64)
    answer = ids(run(used, first)["first"])
    longer = ModelInput.of_text(torch.cat([first.prompt.token_ids, torch.tensor(answer), torch.arange(20)]))
    (events,) = run(used, replace(first, id="second", prompt=longer)).values()
    assert events[-1].usage is not None and events[-1].usage.cached_tokens == 128


def test_prompt_logprobs() -> None:
    used, one = engine(), replace(request("one", 90), wants_prompt_logprobs=True)
    (events,) = run(used, one).values()
    (again,) = run(used, replace(one, id="again")).values()
    assert again[0].prompt_logprobs == events[0].prompt_logprobs and not events[1].prompt_logprobs
    first, *rest = events[0].prompt_logprobs
    model = tiny_model(attention_chunk_size=64)
    with torch.no_grad():
        exact = model.logits(model(one.prompt.token_ids).hidden).log_softmax(-1)
    assert first is None and len(rest) == 89
    for place, logprob in enumerate(rest):
        assert logprob is not None and logprob.token_id == int(one.prompt.token_ids[place + 1])
        assert abs(logprob.logprob - float(exact[place, logprob.token_id])) < 0.1


def test_experts(kind: TinyKind) -> None:
    (events,) = run(engine(kind), replace(request("one", 5), wants_experts=True)).values()
    text = tiny_model(kind).config.text
    for event in events:
        counts = [len(chosen) for chosen in event.experts]
        assert counts == [
            text.num_experts_per_tok if layer in text.moe_layers else 0
            for layer in range(text.num_hidden_layers)
        ]


def test_a_storm() -> None:
    """Requests come and go at random with hardly any pages; nothing is lost, nothing leaks, nobody starves."""
    chance, poor = (
        random.Random(0),
        engine(pages=7, config=EngineConfig(max_running=5, step_tokens=24, max_waiting=999)),
    )
    done: set[str] = set()
    cancelled: set[str] = set()
    for index in range(120):
        length, seed = chance.randint(1, 300), chance.randint(0, 5)
        poor.add(
            request(
                f"r{index}", length, seed, priority=chance.randint(0, 2), max_tokens=chance.randint(1, 60)
            )
        )
        for _ in range(chance.randint(0, 12)):
            done |= {event.request_id for event in poor.step() if event.finish_reason}
        if chance.random() < 0.2 and poor.cancel(name := f"r{chance.randint(0, index)}"):
            cancelled.add(name)
    while poor.has_work:
        done |= {event.request_id for event in poor.step() if event.finish_reason}
    assert not done & cancelled and len(done | cancelled) == 120
    assert poor.stats.pages_free == poor.stats.pages_total


def test_plans() -> None:
    text = (
        tiny_model().config.text
    )  # 6 layers, one of them global; a position of a layer takes 128 bytes in bf16
    plan = plan_cache(text, 1_000_000_000, max_context=1000, max_running=4)
    assert plan.num_pages == {"chunked": 4, "global": 4 * 16} and plan.max_context == 1000
    scarce = plan_cache(text, 100 * 64 * 128)
    assert scarce.num_bytes <= 100 * 64 * 128 and scarce.max_context == 64 * scarce.num_pages["global"]
    with pytest.raises(ValueError, match=r"a context of 1,000 tokens needs 0\.000 GB"):
        plan_cache(text, 1000, max_context=1000)
    with pytest.raises(ValueError, match="the model's has 2 to"):
        plan_cache(text, 10**9, max_context=10**9)


def test_documents_need_no_chat() -> None:
    """Anything that is a model input can be continued."""
    chat_format = ChatFormat.for_model(tokenizer(), None)
    document = chat_format.encode_document([TextPart("a camel")])
    assert len(run(engine(), Request("one", document))["one"]) == SamplingParams().max_tokens
