"""Targets on disk: the same as were given, few bytes, whole or not at all, and whose they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from camelid.core import Batch, ModelInput
from camelid.core.errors import ConfigError, DataError
from camelid.data import TargetOrigin, TargetStore, TeacherTargets, batch_key
from camelid.data import teacher_targets as module

ORIGIN = TargetOrigin(vocab_size=5120, teacher="a" * 64, tokenizer="b" * 64)
LLAMA_4 = TargetOrigin(vocab_size=202_048, teacher="a" * 64, tokenizer="b" * 64)


def some_targets(
    num_tokens: int = 1000, vocab_size: int = 5120, seed: int = 0, unique: int = 12
) -> TeacherTargets:
    """20 draws of `unique` ids a token: the first was drawn more often than once."""
    rng = np.random.default_rng(seed)
    counts = np.ones((num_tokens, unique), np.int64)
    counts[:, 0] = 20 - unique + 1
    return TeacherTargets(
        num_draws=20,
        ids=torch.from_numpy(rng.integers(vocab_size, size=num_tokens * unique)),
        counts=torch.from_numpy(counts.flatten()),
        log_probs=torch.from_numpy(-rng.random(num_tokens)).half(),
        entropies=torch.from_numpy(rng.random(num_tokens)).half(),
    )


def key(number: int) -> bytes:
    return bytes([number]) * 16


def filled(path: Path, origin: TargetOrigin = ORIGIN, numbers: range = range(6)) -> TargetStore:
    """Two batches a shard."""
    store = TargetStore.open(path, origin)
    for number in numbers:
        store.add(key(number), number, some_targets(vocab_size=origin.vocab_size, seed=number))
        if number % 2:
            store.flush()
    return store


def assert_same(ours: TeacherTargets | None, theirs: TeacherTargets) -> None:
    assert ours is not None and ours.num_draws == theirs.num_draws
    for name in ("ids", "counts", "log_probs", "entropies"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert mine.dtype == other.dtype and torch.equal(mine, other), name


@pytest.mark.parametrize("origin", [ORIGIN, LLAMA_4], ids=["short ids", "Llama 4's"])
def test_what_was_given_comes_back(origin: TargetOrigin, tmp_path: Path) -> None:
    store = filled(tmp_path, origin, range(7))
    for found in (store, TargetStore.open(tmp_path)):
        for number in (5, 0, 3):
            assert_same(
                found.find(key(number), number), some_targets(vocab_size=origin.vocab_size, seed=number)
            )
    assert store.find(key(6), 6) is not None, "also before it is on disk"
    assert TargetStore.open(tmp_path, origin).find(key(6), 6) is None
    assert store.find(key(9), 9) is None
    assert len(store) == 7 and store.num_tokens == 6000


@pytest.mark.parametrize(("vocab_size", "limit"), [(5120, 40.0), (65_536, 40.0), (202_048, 52.0)])
def test_bytes_a_token(vocab_size: int, limit: float, tmp_path: Path) -> None:
    """With 11.9 ids a token on average, as draws are tuned to; headers, keys and names of files are in it."""
    store = TargetStore.open(tmp_path, TargetOrigin(vocab_size, "a", "b"))
    for number in range(20):
        store.add(key(number), number, some_targets(900, vocab_size, number))
        store.add(key(number), number + 100, some_targets(100, vocab_size, number, unique=11))
    store.flush()
    assert limit - 1 < store.bytes_per_token <= limit


def test_the_same_content_in_another_epoch(tmp_path: Path) -> None:
    store = TargetStore.open(tmp_path, ORIGIN)
    for number in (3, 10):
        store.add(key(0), number, some_targets(seed=number))
    store.flush()
    for number, expected in ((3, 3), (10, 10), (4, 3), (5, 10)):
        assert_same(store.find(key(0), number), some_targets(seed=expected))


def test_a_key_is_all_that_a_batch_holds() -> None:
    text = ModelInput.of_text([1, 2, 3, 4])
    batch = Batch.pack([text, ModelInput.of_text([5, 6])])
    assert batch_key(batch) == batch_key(Batch.pack([text, ModelInput.of_text([5, 6])]))
    others = [
        Batch.pack([text, ModelInput.of_text([5, 7])]),
        Batch.pack([ModelInput.of_text([1, 2, 3, 4, 5, 6])]),
        Batch.pack([ModelInput.of_text([1, 2, 3]), ModelInput.of_text([4, 5, 6])]),
    ]
    assert len({batch_key(batch), *map(batch_key, others)}) == 4


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_damage_is_refused_with_the_numbers(damage: str, tmp_path: Path) -> None:
    filled(tmp_path)
    shard = sorted(tmp_path.glob("shard-*"))[1]
    data = bytearray(shard.read_bytes())
    if damage == "changed":
        data[-5] ^= 1
    else:
        del data[-1:]
    shard.write_bytes(data)
    with pytest.raises(
        DataError, match=rf"{shard.name} \({len(data):,} bytes\) was changed or cut short: sha256 "
    ):
        TargetStore.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": 6000}, "vocab_size 5120, not 6000"),
        ({"teacher": "c" * 64}, f"teacher {'a' * 64}, not {'c' * 64}"),
        ({"tokenizer": "d" * 64, "seed": 3}, f"tokenizer {'b' * 64}, not {'d' * 64}; seed 0, not 3"),
    ],
)
def test_another_teachers_are_refused(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(ConfigError, match=words):
        TargetStore.open(tmp_path, ORIGIN.replace(**changes))


def test_a_folder_without_targets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no targets\.json"):
        TargetStore.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_id_beyond_the_vocabulary(tmp_path: Path) -> None:
    store = TargetStore.open(tmp_path, ORIGIN)
    store.add(key(0), 0, some_targets(vocab_size=60_000))
    with pytest.raises(DataError, match=r"id \d+ in a vocabulary of 5120"):
        store.flush()


def test_counts_that_do_not_add_up() -> None:
    targets = some_targets(10)
    short = TeacherTargets(21, targets.ids, targets.counts, targets.log_probs, targets.entropies)
    with pytest.raises(DataError, match="200 draws for 10 tokens of 21: not 210"):
        short.offsets()
    assert targets.offsets().tolist() == [12 * token for token in range(11)]


def test_a_writer_that_goes_back_forgets_what_it_will_write_again(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / ".shard-000000004-0.safetensors.77.tmp").write_bytes(b"half")
    store.drop_from(4)
    assert len(list(tmp_path.iterdir())) == 3, "targets.json and two shards"
    assert store.find(key(3), 3) is not None and store.find(key(4), 4) is None and len(store) == 4
    for number in (4, 5):
        store.add(key(number), number, some_targets(seed=number))
    store.flush()
    assert_same(TargetStore.open(tmp_path).find(key(5), 5), some_targets(seed=5))


def test_many_are_written_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 30_000)
    store = TargetStore.open(tmp_path, ORIGIN)
    for number in range(5):
        store.add(key(number), number, some_targets(seed=number))
    assert len(list(tmp_path.glob("shard-*"))) == 1
    assert_same(store.find(key(0), 0), some_targets(seed=0))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from data.test_teacher_targets import filled, some_targets, key
store = filled(Path(sys.argv[1]))
store.add(key(6), 6, some_targets(seed=6))
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
store.flush()
"""


def test_killed_while_a_shard_is_written(tmp_path: Path) -> None:
    paths = [str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), *paths], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".shard-*.tmp"))) == 1
    store = TargetStore.open(tmp_path, ORIGIN)
    assert len(store) == 6 and store.find(key(6), 6) is None
    store.sweep()
    assert list(tmp_path.glob(".*")) == []
