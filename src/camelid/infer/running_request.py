"""A request in the engine: its tokens so far, and what the model reads of them next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from camelid.core import Usage
from camelid.infer.draft import Guess
from camelid.infer.request import Request, TokenLogprob
from camelid.infer.sampler import Sampler
from camelid.infer.sequence import PagedTokens
from camelid.infer.stop_text import StopText
from camelid.model.native import Portion
from camelid.model.paged_kv import PageTable

__all__ = ["RunningRequest"]


class RunningRequest:
    """A request on its way. Ordered by priority, then by arrival."""

    def __init__(
        self, request: Request, arrival: int, tokens: PagedTokens, sampler: Sampler, stop_text: StopText
    ) -> None:
        self.request, self.order = request, (request.priority, arrival)
        self.tokens, self.sampler, self.stop_text = tokens, sampler, stop_text
        self.num_generated = self.num_cached = 0
        self.prompt_logprobs: list[TokenLogprob | None] = [None]
        self._embeddings: Tensor | None = None  # of a prompt with pictures, until it is read
        self.draft_table: PageTable | None = None
        self.guess_count = 0
        self.guess: Guess | None = None  # for this step

    def __lt__(self, other: RunningRequest) -> bool:
        return self.order < other.order

    @property
    def usage(self) -> Usage:
        """So far."""
        return Usage(len(self.request.prompt), self.num_generated, self.num_cached)

    def unread_by_draft(self) -> list[int]:
        """All that the model has read before the draft, as far as it lies in the current chunk, and the last token."""
        assert self.draft_table is not None
        tokens = self.tokens
        start = tokens.table.length - tokens.table.length % tokens.chunk
        self.draft_table.length = max(min(self.draft_table.length, tokens.table.length), start)
        return tokens.token_ids[self.draft_table.length :]

    def take_guesses(self) -> list[int]:
        """Those of this step."""
        guess, self.guess = self.guess, None
        return guess.token_ids if guess else []

    def portion(self, count: int, embed: Callable[..., Tensor]) -> Portion:
        """The next tokens for the model, and guesses; logits of those that may be followed by a new token."""
        start, prompt = self.tokens.table.length, self.request.prompt
        inputs: Sequence[int] | Tensor
        if len(prompt.tiles) and start < len(prompt):
            if self._embeddings is None:
                self._embeddings = embed(prompt.token_ids, prompt.tiles, prompt.patch_positions)
            known = self._embeddings[start : start + count]
            rest = self.tokens.token_ids[start + len(known) : start + count]
            inputs = torch.cat([known, embed(torch.tensor(rest))]) if rest else known
            if start + count >= len(prompt):
                self._embeddings = None
        else:
            inputs = self.tokens.token_ids[start : start + count]
        if self.guess:
            return Portion(
                self.tokens.table, [*inputs, *self.guess.token_ids], range(1 + len(self.guess.token_ids))
            )
        if self.request.wants_prompt_logprobs and self.num_generated == 0:
            rows = list(range(count))
        else:
            rows = [count - 1] if count == self.tokens.num_left else []
        return Portion(self.tokens.table, inputs, rows)

    def note_prompt_logprobs(self, logits: Tensor, num_read: int) -> None:
        """Of the tokens after each that was just read."""
        if not self.request.wants_prompt_logprobs:
            return
        end = self.tokens.table.length
        following = self.tokens.token_ids[end - num_read + 1 : min(end + 1, len(self.request.prompt))]
        logprobs = logits[: len(following)].log_softmax(-1)
        for row, token_id in enumerate(following):
            self.prompt_logprobs.append(TokenLogprob(token_id, float(logprobs[row, token_id])))
