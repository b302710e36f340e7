"""A smaller member of the herd guesses what comes next, so that one step of the model can judge several tokens.

The model's own sampler goes over the guesses, one after the other, and the first that differs ends them: tokens are
those that it would have chosen alone, bit for bit, and the draft decides about nothing but speed. Guesses come from a
fork of the same sampler with the same noise: of two near distributions the same noise mostly draws the same token
(a Gumbel coupling; compare arXiv 2302.01318, which accepts by ratio and so changes the draws).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from camelid.core.errors import ConfigError, ConstraintError
from camelid.infer.cache_plan import CachePlan
from camelid.infer.runner import make_runner
from camelid.infer.sampler import Sampler
from camelid.model import Llama4
from camelid.model.config import TextConfig
from camelid.model.native import Portion
from camelid.model.paged_kv import PagedKV, PageTable
from camelid.ops.quantization import Bits

__all__ = ["Draft", "Guess", "check_draft"]


def check_draft(draft: TextConfig, text: TextConfig) -> None:
    """ConfigError unless its tokens are ours and its keys and values can lie on our pages."""
    if draft.vocab_size != text.vocab_size:
        raise ConfigError(f"the draft has {draft.vocab_size:,} tokens, the model {text.vocab_size:,}")
    if draft.attention_chunk_size != text.attention_chunk_size:
        raise ConfigError(
            f"the draft has chunks of {draft.attention_chunk_size:,} tokens, "
            f"the model of {text.attention_chunk_size:,}"
        )
    if missing := set(draft.layer_types) - set(text.layer_types):
        raise ConfigError(f"the draft has {', '.join(sorted(missing))} layers, the model has none")


@dataclass
class Guess:
    """For one sequence: what the draft has not read yet, and what it then thinks comes next."""

    table: PageTable
    unread: list[int]
    sampler: Sampler
    count: int
    token_ids: list[int] = field(default_factory=list)


class Draft:
    """Its keys and values lie on the pages of the same numbers as the model's."""

    def __init__(self, model: Llama4, plan: CachePlan, weight_bits: Bits | None = None) -> None:
        self._kv = PagedKV(model.config.text, plan.num_pages, plan.dtype)
        for (
            layer
        ) in self._kv.layers:  # it may meet pages that it never wrote; what lies there must be numbers
            for tensor in (layer.keys, layer.values, layer.key_scales, layer.value_scales):
                if tensor is not None:
                    tensor.zero_()
        self._runner = make_runner(model, self._kv, weight_bits)

    def table(self, of: PageTable) -> PageTable:
        """The draft's view of a sequence's pages, with a length of its own."""
        return of.beside(self._kv)

    def read(self, portions: Sequence[Portion]) -> None:
        """Parts of prompts."""
        if portions:
            self._runner.step(portions)

    def guess(self, guesses: Sequence[Guess]) -> None:
        """Fills in token ids, for all sequences together; fewer than asked for where a constraint ends."""
        active = list(guesses)
        while active:
            portions = [Portion(guess.table, guess.unread, [len(guess.unread) - 1]) for guess in active]
            logits, _ = self._runner.step(portions)
            likeliest = logits.argmax(-1).tolist()
            still = []
            for row, guess in enumerate(active):
                try:
                    sampled = guess.sampler(logits[row], likeliest[row])
                except ConstraintError:
                    continue
                guess.token_ids.append(sampled.token_id)
                guess.unread = [sampled.token_id]
                if len(guess.token_ids) < guess.count and not sampled.is_last:
                    still.append(guess)
            active = still
