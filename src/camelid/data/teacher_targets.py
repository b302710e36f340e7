"""What a teacher said about the learnt tokens of a batch, and a folder that keeps it.

targets.json                             whose targets these are             (schema targets/1)
shard-<first batch>-<digest>.safetensors some batches' records; the name holds the first 16 digits of its sha256

A shard appears whole or not at all. A record is found by the digest of its batch's content: examples are made and
augmented while they are read, so there is no file of tokens whose offsets could be the key. Any reader that packs
the same batches finds them, in whatever order; one that packs them otherwise (another `batch_tokens`, another
seed) does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from camelid.core import Batch, Config
from camelid.core.digest import sha256_of_bytes, sha256_of_file
from camelid.core.errors import ConfigError, DataError
from camelid.core.files import write_bytes_atomically, write_text_atomically

__all__ = ["TargetOrigin", "TargetStore", "TeacherTargets", "batch_key"]

ORIGIN, SHARDS = "targets.json", "shard-*.safetensors"
SCHEMA = "targets/1"
KEY_BYTES, NAME_DIGITS = 16, 16
SHORT_IDS = 2**16  # above that many, an id takes a third byte
MOST_PENDING = 2**22  # entries that wait in memory: a shard of some 16 MB


@dataclass(frozen=True)
class TeacherTargets:
    """Of every learnt token of a batch, in order: `num_draws` draws from the teacher's distribution, and two numbers.

    `ids` with `counts` are the different ids that were drawn, token after token. A token's counts add up to
    `num_draws`, so no table of lengths is needed. `log_probs` is the teacher's of the token that really came,
    `entropies` that of its distribution in nats; both are rounded to fp16, kept or not.
    """

    num_draws: int
    ids: Int[Tensor, "entries"]
    counts: Int[Tensor, "entries"]
    log_probs: Float[Tensor, "tokens"]
    entropies: Float[Tensor, "tokens"]

    @property
    def num_tokens(self) -> int:
        return self.log_probs.shape[0]

    def offsets(self) -> Int[Tensor, "borders"]:
        """Where each token's entries begin, and where the last one's end. DataError where counts do not add up."""
        drawn = self.counts.cumsum(0)
        ends = torch.searchsorted(drawn, torch.arange(self.num_tokens + 1) * self.num_draws)
        wanted = self.num_tokens * self.num_draws
        found = int(drawn[-1]) if len(drawn) else 0
        if found != wanted:
            raise DataError(
                f"{found:,} draws for {self.num_tokens:,} tokens of {self.num_draws}: not {wanted:,}"
            )
        return torch.cat([ends[:1], ends[1:] + 1])


@dataclass(frozen=True)
class TargetOrigin(Config):
    """Whose targets a folder holds. `teacher` and `tokenizer` are digests; `seed` is that of the draws."""

    vocab_size: int
    teacher: str
    tokenizer: str
    seed: int = 0
    schema: str = SCHEMA


def batch_key(batch: Batch) -> bytes:
    """16 bytes of the sha256 of everything that decides what a model says about a batch."""
    digest = hashlib.sha256(repr((batch.document_lengths, tuple(batch.tiles.shape))).encode())
    for tensor in (batch.token_ids, batch.target_ids, batch.loss_weights, batch.tiles, batch.patch_positions):
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.digest()[:KEY_BYTES]


@dataclass
class _Pending:
    """A record that no shard holds yet."""

    key: bytes
    number: int
    targets: TeacherTargets


@dataclass
class _Shard:
    """An open, checked shard; its arrays stay on disk until a record is asked for."""

    path: Path
    numbers: list[int]
    keys: list[bytes]
    num_draws: list[int]
    tokens: list[int]
    entries: list[int]


@dataclass
class TargetStore:
    """Records by batch key, read through the page cache and added to shard by shard.

    `number` says which batch of its writer's stream a record belongs to: the same content may come again in a later
    epoch, with draws of its own. Raises DataError for shards that were changed or cut short.
    """

    path: Path
    origin: TargetOrigin
    _shards: list[_Shard] = field(default_factory=list)
    _places: dict[bytes, dict[int, tuple[_Shard, int] | _Pending]] = field(default_factory=dict)
    _pending: list[_Pending] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, origin: TargetOrigin | None = None) -> TargetStore:
        """An existing folder, or with an `origin` a new one. ConfigError, with both, for a folder of another origin."""
        file = path / ORIGIN
        if not file.is_file():
            if origin is None:
                raise ConfigError(f"{path} holds no teacher's targets: it has no {ORIGIN}")
            path.mkdir(parents=True, exist_ok=True)
            write_text_atomically(file, origin.to_json())
        found = TargetOrigin.load(file)
        if found.schema != SCHEMA:
            raise ConfigError(f"{file}: schema {found.schema!r}, expected {SCHEMA!r}")
        check_origin(found, origin or found, str(path))
        store = cls(path, found)
        for shard in sorted(path.glob(SHARDS)):
            store._take_in(_open_shard(shard, found.vocab_size))
        return store

    def find(self, key: bytes, number: int) -> TeacherTargets | None:
        """A batch's record: that of the same place in the stream, else one of the same content, else None."""
        records = self._places.get(key)
        if not records:
            return None
        numbers = sorted(records)
        place = records[number if number in records else numbers[number % len(numbers)]]
        return place.targets if isinstance(place, _Pending) else self._read(*place)

    def add(self, key: bytes, number: int, targets: TeacherTargets) -> None:
        """Keeps a record, in memory until `flush` or until there are many."""
        pending = _Pending(key, number, targets)
        self._pending.append(pending)
        self._places.setdefault(key, {})[number] = pending
        if sum(len(record.targets.ids) for record in self._pending) > MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since the last time as one more shard."""
        if not self._pending:
            return
        data = _pack(self._pending, self.origin.vocab_size)
        name = f"shard-{self._pending[0].number:09d}-{sha256_of_bytes(data)[:NAME_DIGITS]}.safetensors"
        write_bytes_atomically(self.path / name, data)
        self._pending.clear()
        self._take_in(_open_shard(self.path / name, self.origin.vocab_size))

    def drop_from(self, number: int) -> None:
        """Forgets all shards that reach batch `number` or beyond: their writer is about to do those again."""
        self.sweep()
        for shard in [shard for shard in self._shards if shard.numbers and max(shard.numbers) >= number]:
            shard.path.unlink()
            self._shards.remove(shard)
            for key, old in zip(shard.keys, shard.numbers, strict=True):
                self._places[key].pop(old, None)

    def sweep(self) -> None:
        """Removes what a killed writer left half written; for the folder's one writer to call."""
        for half in self.path.glob(".*.tmp"):
            half.unlink(missing_ok=True)

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    @property
    def num_tokens(self) -> int:
        """How many tokens the shards speak of."""
        return sum(shard.tokens[-1] for shard in self._shards)

    @property
    def bytes_per_token(self) -> float:
        """Of the shards on disk, names and headers included."""
        return sum(shard.path.stat().st_size for shard in self._shards) / max(self.num_tokens, 1)

    def _take_in(self, shard: _Shard) -> None:
        self._shards.append(shard)
        for index, (key, number) in enumerate(zip(shard.keys, shard.numbers, strict=True)):
            self._places.setdefault(key, {})[number] = (shard, index)

    def _read(self, shard: _Shard, index: int) -> TeacherTargets:
        tokens, entries = (slice(*ends[index : index + 2]) for ends in (shard.tokens, shard.entries))
        with safe_open(shard.path, "np") as file:
            ids = file.get_slice("ids")[entries].astype(np.int64)
            if self.origin.vocab_size > SHORT_IDS:
                ids += file.get_slice("high_ids")[entries].astype(np.int64) << 16
            counts = file.get_slice("counts")[entries].astype(np.int64)
            log_probs = file.get_slice("log_probs")[tokens]
            entropies = file.get_slice("entropies")[tokens]
        return TeacherTargets(
            shard.num_draws[index], *map(torch.from_numpy, (ids, counts, log_probs, entropies))
        )


def check_origin(found: TargetOrigin, wanted: TargetOrigin, where: str) -> None:
    """ConfigError that says in which numbers two origins differ."""
    ours, theirs = wanted.to_dict(), found.to_dict()
    if wrong := [f"{name} {theirs[name]}, not {ours[name]}" for name in ours if ours[name] != theirs[name]]:
        raise ConfigError(f"{where} holds another teacher's targets: {'; '.join(wrong)}")


def _pack(records: list[_Pending], vocab_size: int) -> bytes:
    """One shard: the arrays of all records end to end, and where each begins."""
    targets = [record.targets for record in records]

    def joined(name: str, dtype: type[np.generic]) -> np.ndarray:
        return np.concatenate([getattr(item, name).cpu().numpy() for item in targets]).astype(dtype)

    ids = joined("ids", np.int64)
    arrays = {
        "keys": np.frombuffer(b"".join(record.key for record in records), np.uint8).reshape(-1, KEY_BYTES),
        "numbers": np.array([record.number for record in records], np.int64),
        "num_draws": np.array([item.num_draws for item in targets], np.uint8),
        "tokens": np.array([item.num_tokens for item in targets], np.int64),
        "entries": np.array([len(item.ids) for item in targets], np.int64),
        "ids": (ids & (SHORT_IDS - 1)).astype(np.uint16),
        "counts": joined("counts", np.uint8),
        "log_probs": joined("log_probs", np.float16),
        "entropies": joined("entropies", np.float16),
    }
    if vocab_size > SHORT_IDS:
        arrays["high_ids"] = (ids >> 16).astype(np.uint8)
    data: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def _open_shard(path: Path, vocab_size: int) -> _Shard:
    """Checks every byte of a shard and reads its small arrays; DataError with the numbers."""
    promised, found = path.stem.rpartition("-")[2], sha256_of_file(path)
    if found[: len(promised)] != promised:
        size = path.stat().st_size
        raise DataError(
            f"{path} ({size:,} bytes) was changed or cut short: sha256 {found[: len(promised)]}…, not {promised}…"
        )
    try:
        with safe_open(path, "np") as file:
            small = {
                name: file.get_tensor(name) for name in ("keys", "numbers", "num_draws", "tokens", "entries")
            }
            ids = file.get_tensor("ids").astype(np.int64)
            if vocab_size > SHORT_IDS:
                ids += file.get_tensor("high_ids").astype(np.int64) << 16
    except SafetensorError as error:
        raise DataError(f"{path} is no shard of targets: {error}") from error
    if len(ids) and (highest := int(ids.max())) >= vocab_size:
        raise DataError(f"{path}: id {highest} in a vocabulary of {vocab_size}")
    return _Shard(
        path,
        small["numbers"].tolist(),
        [row.tobytes() for row in small["keys"]],
        small["num_draws"].tolist(),
        list(_borders(small["tokens"])),
        list(_borders(small["entries"])),
    )


def _borders(lengths: np.ndarray) -> Iterator[int]:
    yield 0
    yield from np.cumsum(lengths).tolist()
