"""A teacher's targets: few draws per token that stand for its whole distribution without bias (after 2503.16870)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from camelid.core import Batch
from camelid.core.errors import DataError
from camelid.data import TargetStore, TeacherTargets, batch_key
from camelid.model import Llama4
from camelid.train.losses import CHUNK_LOGITS, MIN_CHUNK_ROWS

__all__ = ["StoredTargets", "TargetSource", "TeacherOnTheFly", "draw_seed", "draw_targets", "num_draws_for"]

MEAN_UNIQUE = 11.9  # a dozen ids a token, less what shards spend on their headers
MOST_DRAWS = 255  # counts take a byte
SAMPLE_LOGITS = 2**20


class TargetSource(Protocol):
    """Where a student's targets come from."""

    def targets(self, batch: Batch, number: int) -> TeacherTargets:
        """Those of batch `number` of the student's stream, on its batch's device."""
        ...

    def flush(self) -> None:
        """Makes durable what was computed so far, if anything is kept."""
        ...


@torch.no_grad()
def draw_targets(
    hidden: Float[Tensor, "tokens hidden"],
    head_weight: Float[Tensor, "vocab hidden"],
    target_ids: Int[Tensor, "tokens"],
    loss_weights: Float[Tensor, "tokens"],
    seed: int,
) -> TeacherTargets:
    """What a teacher with these hidden states says about the tokens whose weight is above 0.

    The draws of a token are systematic: with one random number u, the k-th of D is where the cumulative
    distribution passes (k + u) / D. Each draw alone follows the distribution, so every id's expected count is D
    times its probability: a loss that is linear in the counts, and its gradient, are unbiased, and vary less than
    with independent draws. All of it in fp32 (sums in fp64) whatever the model computes in: steps of bf16
    logits are as coarse as the tail is fine.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        rows = loss_weights.nonzero()[:, 0]
        generator = torch.Generator().manual_seed(seed)
        starts = torch.rand(len(rows), generator=generator, dtype=torch.float64).to(hidden.device)
        head = head_weight.float()
        vocab_size = head.shape[0]
        num_draws = num_draws_for(_sampled_probs(hidden, head, rows))
        steps = torch.arange(num_draws, device=hidden.device)
        ids, counts, log_probs_of_targets, entropies = [], [], [], []
        num_rows = max(MIN_CHUNK_ROWS, CHUNK_LOGITS // vocab_size)
        for piece, start in zip(rows.split(num_rows), starts.split(num_rows), strict=True):
            log_probs = _log_probs(hidden[piece], head)
            log_probs_of_targets.append(log_probs.gather(1, target_ids[piece, None])[:, 0].half())
            probs = log_probs.exp()
            entropies.append(-(probs * log_probs).sum(-1).half())
            cumulative = probs.cumsum(-1, dtype=torch.float64)
            points = (steps + start[:, None]) / num_draws * cumulative[:, -1:]
            drawn = torch.searchsorted(cumulative, points, right=True).clamp_(max=vocab_size - 1)
            places = torch.arange(len(piece), device=drawn.device)[:, None] * vocab_size + drawn
            unique, count = torch.unique_consecutive(places.flatten(), return_counts=True)
            ids.append(unique % vocab_size)
            counts.append(count)
        return TeacherTargets(
            num_draws,
            torch.cat(ids),
            torch.cat(counts),
            torch.cat(log_probs_of_targets),
            torch.cat(entropies),
        )


def num_draws_for(probs: Float[Tensor, "tokens vocab"]) -> int:
    """The most draws whose different ids are `MEAN_UNIQUE` or fewer on average.

    Of D systematic draws an id of probability p is there with probability min(1, D p), so the expected number of
    different ids is exact. It depends on the distribution alone, never on what was drawn: no bias comes in.
    """
    low, high = int(MEAN_UNIQUE), MOST_DRAWS
    while low < high:
        middle = (low + high + 1) // 2
        is_within = float((probs * middle).clamp_(max=1.0).sum(-1).mean()) <= MEAN_UNIQUE
        low, high = (middle, high) if is_within else (low, middle - 1)
    return low


def _sampled_probs(hidden: Tensor, head: Tensor, rows: Tensor) -> Tensor:
    """The distributions of some tokens, evenly spread; all of them where they are few."""
    most = max(32, SAMPLE_LOGITS // head.shape[0])
    stride = max(1, -(-len(rows) // most))
    return _log_probs(hidden[rows[::stride]], head).exp_()


def _log_probs(hidden: Tensor, head: Tensor) -> Tensor:
    return F.linear(hidden.float(), head).log_softmax(-1)


def draw_seed(seed: int, key: bytes, number: int) -> int:
    """The seed of a batch's draws: another for every batch, and for the same batch in another epoch."""
    digest = hashlib.sha256(b"%d/%d/" % (seed, number) + key).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class TeacherOnTheFly:
    """A finished teacher, asked about every batch. With a `store`, what it said is kept and not asked again."""

    model: Llama4
    seed: int
    store: TargetStore | None = None
    dtype: torch.dtype | None = None

    @torch.no_grad()
    def targets(self, batch: Batch, number: int) -> TeacherTargets:
        """From the store if they are there."""
        key = batch_key(batch)
        if self.store is not None and (found := self.store.find(key, number)) is not None:
            return found
        with torch.autocast(batch.token_ids.device.type, torch.bfloat16, enabled=self.dtype is not None):
            output = self.model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
        head = self.model.language_model.head_weight
        seed = draw_seed(self.seed, key, number)
        drawn = draw_targets(output.hidden, head, batch.target_ids, batch.loss_weights, seed)
        if self.store is not None:
            self.store.add(key, number, drawn)
        return drawn

    def flush(self) -> None:
        """Writes a shard of what is new."""
        if self.store is not None:
            self.store.flush()


@dataclass(frozen=True)
class StoredTargets:
    """A folder that some teacher has filled; DataError for a batch that is not there."""

    store: TargetStore

    def targets(self, batch: Batch, number: int) -> TeacherTargets:
        """The record of this batch."""
        key = batch_key(batch)
        found = self.store.find(key, number)
        if found is None:
            raise DataError(
                f"{self.store.path}: no targets for batch {number} (content {key.hex()[:12]}…) among "
                f"{len(self.store):,} records: it was filled from other data, another seed or other batch_tokens, "
                "or for fewer steps"
            )
        return found

    def flush(self) -> None:
        """Nothing is new."""
