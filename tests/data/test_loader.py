"""Batches hold what was drawn, resume bit for bit, and count what could not be used."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from camelid.core.batch import Batch
from camelid.core.errors import ConfigError, DataError
from camelid.core.messages import ImagePart, Message, TextPart
from camelid.data.example import Conversation, Document, Example
from camelid.data.loader import BatchLoader, LoaderState, example_rng, square_averaged
from camelid.data.mixture import Mixture
from camelid.data.prefetch import prefetch
from camelid.inputs import ChatFormat, Tokenizer

FORMAT = ChatFormat(Tokenizer({bytes([value]): value for value in range(256)}), 16, patch_tokens_per_tile=4)


class Texts:
    """Documents of random length that say their index."""

    name = "texts"

    def example(self, index: int, rng: np.random.Generator) -> Example:
        return Document((TextPart(f"{index}:" + "x" * int(rng.integers(1, 40))),))


class Pictures:
    """Conversations about a noisy picture; every `corrupt_every`-th is no picture at all."""

    name = "pictures"

    def __init__(self, corrupt_every: int = 0) -> None:
        self.corrupt_every = corrupt_every

    def example(self, index: int, rng: np.random.Generator) -> Example:
        picture: Image.Image | bytes = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        if self.corrupt_every and index % self.corrupt_every == 0:
            picture = b"\x89PNG but not really"
        return Conversation(
            (Message.of("user", ImagePart(picture), "?"), Message.of("assistant", str(index)))
        )


class Fixed:
    """The same example for ever."""

    def __init__(self, example: Example, name: str = "fixed") -> None:
        self.name = name
        self._example = example

    def example(self, index: int, rng: np.random.Generator) -> Example:
        return self._example


def loader(*sources: object, batch_tokens: int = 200, **options: object) -> BatchLoader:
    mixture = Mixture(dict.fromkeys(sources or (Texts(), Pictures()), 1.0))
    return BatchLoader(mixture, FORMAT, batch_tokens, **{"seed": 1, "prefetch_depth": 0, **options})


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(value, getattr(other, name))
        if isinstance(value, torch.Tensor)
        else value == getattr(other, name)
        for name, value in vars(one).items()
    )


def test_packing_is_greedy_and_in_order() -> None:
    batches = list(islice(loader(), 20))
    lengths, names, mixture = [], list[str](), Mixture({Texts(): 1.0, Pictures(): 1.0})
    counts: Counter[str] = Counter()
    for number in range(batches[-1][1].next_example + 1):
        rng = example_rng(1, number)
        source = mixture.choose(rng)
        example = source.example(counts[source.name], rng)
        counts[source.name] += 1
        names.append(source.name)
        encode = FORMAT.encode if isinstance(example, Conversation) else FORMAT.encode_document
        lengths.append(len(encode(example.messages if isinstance(example, Conversation) else example.parts)))
    for batch, state in batches:
        taken, lengths = lengths[: len(batch.document_lengths)], lengths[len(batch.document_lengths) :]
        assert batch.document_lengths == tuple(taken)
        assert batch.document_sources == tuple(names[: len(taken)])
        del names[: len(taken)]
        assert batch.num_tokens == sum(taken) <= 200 < sum(taken) + lengths[0]
        assert sum(state.drawn.values()) == state.next_example


@pytest.mark.parametrize("prefetch_depth", [0, 2])
def test_a_killed_run_resumes_bit_for_bit(prefetch_depth: int) -> None:
    whole = list(islice(loader(Texts(), Pictures(corrupt_every=7)), 12))
    for stop in (1, 5, 11):
        saved = LoaderState.from_dict(json.loads(json.dumps(whole[stop - 1][1].to_dict())))
        fresh = loader(Texts(), Pictures(corrupt_every=7), prefetch_depth=prefetch_depth)
        rest = list(islice(fresh.resumed(saved), 12 - stop))
        assert all(same(a, b) and s == t for (a, s), (b, t) in zip(whole[stop:], rest, strict=True))


def test_prefetching_changes_nothing() -> None:
    ahead, plain = islice(loader(prefetch_depth=2), 8), islice(loader(), 8)
    assert all(same(a, b) and s == t for (a, s), (b, t) in zip(ahead, plain, strict=True))


def test_square_averaging_lets_a_page_count_no_more_than_its_root() -> None:
    weights = torch.tensor([0.0, 1, 1, 1, 1, 0, 0, 1, 0])
    averaged = square_averaged(weights)
    assert torch.equal(averaged, torch.tensor([0, 0.5, 0.5, 0.5, 0.5, 0, 0, 1, 0]))
    assert not square_averaged(torch.zeros(3)).any()


def test_another_seed_gives_other_batches() -> None:
    assert not same(next(iter(loader()))[0], next(iter(loader(seed=2)))[0])


def test_long_documents_are_cut_and_long_conversations_skipped() -> None:
    text = Fixed(Document((TextPart("y" * 500),)), "text")
    batch, _ = next(iter(loader(text, max_document_tokens=50)))
    assert batch.document_lengths == (50,) * 4
    picture = ImagePart(Image.new("RGB", (16, 16)))
    album = Fixed(Document((picture, TextPart("one"), picture, TextPart("two " * 30))), "album")
    batch, _ = next(iter(loader(album, max_document_tokens=50)))
    assert len(batch.tiles) == 2 * len(batch.document_lengths)
    assert max(batch.document_lengths) <= 50
    talk = Fixed(Conversation((Message.of("user", "z" * 500), Message.of("assistant", "!"))), "talk")
    mixed = replace(loader(talk, Texts()), mixture=Mixture({talk: 0.1, Texts(): 0.9}))
    *_, (_, state) = islice(mixed, 30)
    assert state.skipped == {"talk": state.drawn["talk"]}
    assert state.drawn["talk"] > 3


def test_corrupt_pictures_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "camelid.data.loader"):
        *_, (_, state) = islice(loader(Pictures(corrupt_every=10), batch_tokens=100), 60)
    drawn, skipped = state.drawn["pictures"], state.skipped["pictures"]
    assert drawn > 100
    assert skipped == (drawn + 9) // 10
    assert len(caplog.messages) == 5
    assert "source 'pictures': skipped example 0 (1 of 1)" in caplog.messages[0]


@pytest.mark.parametrize("prefetch_depth", [0, 2])
def test_too_many_corrupt_pictures_stop_the_run(prefetch_depth: int) -> None:
    batches = loader(Pictures(corrupt_every=4), prefetch_depth=prefetch_depth)
    with pytest.raises(DataError, match=r"'pictures': 51 of 201 examples are unusable; the last: .*image"):
        list(batches)


def test_a_mixture_keeps_its_shares_and_refuses_nonsense() -> None:
    sources = [Fixed(Document((TextPart("a"),)), name) for name in "abc"]
    mixture = Mixture({sources[0]: 6.0, sources[1]: 2.0, sources[2]: 0.0})
    drawn = Counter(mixture.choose(example_rng(0, number)).name for number in range(4000))
    assert mixture.shares == {"a": 0.75, "b": 0.25}
    assert abs(drawn["a"] / 4000 - 0.75) < 0.03 and drawn["c"] == 0
    for weights, words in (
        ({sources[0]: -1.0}, "got -1.0"),
        ({sources[0]: float("nan")}, "got nan"),
        ({sources[0]: 0.0}, "positive weight"),
        ({sources[0]: 1.0, Fixed(Document(()), "a"): 1.0}, "different names"),
    ):
        with pytest.raises(ConfigError, match=words):
            Mixture(weights)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_tokens must be at least 2, got 1"):
        loader(batch_tokens=1)
    with pytest.raises(ConfigError, match="batch_tokens=200, got 201"):
        loader(max_document_tokens=201)


def test_prefetch_keeps_order_and_raises_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise DataError("here")

    received: list[int] = []
    with pytest.raises(DataError, match="here"):
        received.extend(prefetch(items))
    assert received == list(range(5))
    assert list(prefetch(partial(iter, range(9)), depth=3)) == list(range(9))


def test_prefetch_ends_its_process_when_closed() -> None:
    before = multiprocessing.active_children()
    ahead = prefetch(partial(iter, range(1000)), depth=2)
    assert next(ahead) == 0
    assert len(multiprocessing.active_children()) == len(before) + 1
    ahead.close()
    assert multiprocessing.active_children() == before


def test_prefetch_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert list(prefetch(partial(iter, range(3)))) == [0, 1, 2]
    assert torch.equal(torch.rand(3), expected)


def test_ctrl_c_does_not_stop_the_supply() -> None:
    ahead = prefetch(partial(iter, range(50)), depth=1)
    assert next(ahead) == 0
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert list(ahead) == list(range(1, 50))
