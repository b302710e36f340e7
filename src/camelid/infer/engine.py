"""Many requests at once: each step takes a token of every running sequence and portions of prompts that wait."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from camelid.core import FinishReason, Usage
from camelid.core.config import Config
from camelid.core.errors import InputError
from camelid.infer.cache_plan import CachePlan
from camelid.infer.page_pool import PagePool
from camelid.infer.request import EngineStats, QueueFull, Request, TokenEvent, TokenLogprob
from camelid.infer.runner import make_runner
from camelid.infer.sampler import Sampler
from camelid.infer.sequence import PagedTokens, Pools
from camelid.infer.stop_text import StopText
from camelid.inputs import AnyTokenizer
from camelid.model import Llama4
from camelid.model.config import LayerType
from camelid.model.native import Portion
from camelid.model.paged_kv import PagedKV

__all__ = ["Engine", "EngineConfig"]


@dataclass(frozen=True)
class EngineConfig(Config):
    """Limits of an engine. A step reads at most `step_tokens`: prompts beyond it are read in portions."""

    max_running: int = 64
    max_waiting: int = 256
    step_tokens: int = 512


class Engine:
    """Continuous batching over paged caches. Not for several threads at once (`AsyncEngine` is).

    Where the model runs in native code, a request's tokens depend on nothing but the request.
    """

    def __init__(
        self, model: Llama4, tokenizer: AnyTokenizer, plan: CachePlan, config: EngineConfig = EngineConfig()
    ) -> None:
        text = model.config.text
        dtype = model.language_model.head_weight.dtype
        self.config, self.tokenizer, self.max_context = config, tokenizer, plan.max_context
        self._vocab_size = text.vocab_size
        self._kv = PagedKV(text, plan.num_pages, dtype)
        self._pools: Pools = {kind: PagePool(kind, count) for kind, count in plan.num_pages.items()}
        self._runner = make_runner(model, self._kv)
        self._waiting: list[_Sequence] = []  # a heap
        self._running: list[_Sequence] = []
        self._by_id: dict[str, _Sequence] = {}
        self._num_added = self._num_finished = self._num_cancelled = self._num_preempted = 0
        self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._waiting or self._running)

    @property
    def stats(self) -> EngineStats:
        """Counts since the start, and how full the engine is."""
        return EngineStats(
            num_waiting=len(self._waiting),
            num_running=len(self._running),
            num_finished=self._num_finished,
            num_cancelled=self._num_cancelled,
            num_preempted=self._num_preempted,
            prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            pages_free=sum(pool.num_free for pool in self._pools.values()),
            pages_total=sum(pool.num_pages for pool in self._pools.values()),
            pages_known=sum(pool.num_known for pool in self._pools.values()),
        )

    def add(self, request: Request) -> None:
        """Raises InputError for what can never be answered, QueueFull for what cannot be answered now."""
        if not 0 < len(request.prompt) < self.max_context:
            raise InputError(
                f"the prompt has {len(request.prompt):,} tokens, the context is {self.max_context:,}"
            )
        if request.id in self._by_id:
            raise InputError(f"a request with the id {request.id!r} is running")
        if len(self._waiting) >= self.config.max_waiting:
            raise QueueFull(f"{len(self._waiting)} requests are waiting")
        self._num_added += 1
        sequence = _Sequence(request, self)
        self._by_id[request.id] = sequence
        heapq.heappush(self._waiting, sequence)

    def cancel(self, request_id: str) -> bool:
        """Stops a request and frees what it held at once; False if there is none."""
        sequence = self._by_id.pop(request_id, None)
        if sequence is None:
            return False
        self._num_cancelled += 1
        sequence.tokens.release()
        if sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
            heapq.heapify(self._waiting)
        return True

    @torch.inference_mode()
    def step(self) -> list[TokenEvent]:
        """One pass of the model; an event for every token that came out."""
        self._admit()
        planned = self._plan()
        if not planned:
            return []
        logits, routed = self._runner.step([portion for _, portion in planned])
        events, first_row, first_logit = [], 0, 0
        for sequence, portion in planned:
            rows, wanted = portion.embeddings.shape[0], len(portion.logit_rows)
            sequence.tokens.learn(rows)
            own_logits = logits[first_logit : first_logit + wanted]
            own_routed = routed[:, first_row + rows - 1]
            if event := self._advance(sequence, own_logits, own_routed, rows):
                events.append(event)
            first_row, first_logit = first_row + rows, first_logit + wanted
        return events

    def _admit(self) -> None:
        """Lets waiting sequences run, in their order, as long as their whole prompts find pages."""
        while self._waiting:
            head = self._waiting[0]
            worst = max(self._running, default=None)
            is_urgent = worst is not None and head.request.priority < worst.request.priority
            if len(self._running) >= self.config.max_running:
                if not is_urgent:
                    return
                self._preempt(worst)  # type: ignore[arg-type]
                continue
            num_cached = head.tokens.find_beginning()
            needed = head.tokens.pages_needed_to_end()
            if self._running and not self._has_free(needed):
                head.tokens.release()
                if not is_urgent:
                    return
                self._preempt(worst)  # type: ignore[arg-type]
                continue
            if head.num_generated == 0:
                head.num_cached = num_cached
                self._cached_tokens += num_cached
            self._running.append(heapq.heappop(self._waiting))

    def _has_free(self, needed: dict[LayerType, int]) -> bool:
        return all(count <= self._pools[kind].num_free for kind, count in needed.items())

    def _preempt(self, sequence: _Sequence) -> None:
        """Back to waiting, without pages. What it has generated stays, and is read like a prompt later."""
        self._num_preempted += 1
        sequence.tokens.release()
        self._running.remove(sequence)
        heapq.heappush(self._waiting, sequence)

    def _plan(self) -> list[tuple[_Sequence, Portion]]:
        """Tokens of this step, pages taken. If pages run out, the last in order gives its own."""
        self._running.sort()
        budget = max(self.config.step_tokens - sum(s.tokens.num_left == 1 for s in self._running), 1)
        planned: list[tuple[_Sequence, Portion]] = []
        for sequence in list(self._running):
            if sequence not in self._running:
                continue  # preempted a moment ago
            left = sequence.tokens.num_left
            count = left if left == 1 else sequence.tokens.limit(min(left, budget))
            if not count or not self._reserve(sequence, count):
                continue
            budget -= count if left > 1 else 0
            planned.append((sequence, sequence.portion(count, self._runner.embed)))
        return planned

    def _reserve(self, sequence: _Sequence, count: int) -> bool:
        sequence.tokens.drop_past_chunk()
        while not self._has_free(sequence.tokens.pages_needed(count)):
            victim = max(self._running)
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.tokens.reserve(count)
        return True

    def _advance(
        self, sequence: _Sequence, logits: Tensor, routed: Tensor, num_read: int
    ) -> TokenEvent | None:
        """After its tokens were read: the next token, if the prompt is done."""
        request, tokens = sequence.request, sequence.tokens
        if sequence.num_generated == 0:
            self._prompt_tokens += num_read
        sequence.note_prompt_logprobs(logits, num_read)
        if tokens.num_left:
            return None
        sampled = sequence.sampler(logits[-1])
        tokens.token_ids.append(sampled.token_id)
        sequence.num_generated += 1
        self._generated_tokens += 1
        is_stop = sampled.token_id in self.tokenizer.stop_ids
        text, has_stopped = ("", False) if is_stop else sequence.stop_text.feed(sampled.token_id)
        reason: FinishReason | None = None
        if is_stop or has_stopped:
            reason = "stop"
        elif (
            sequence.num_generated >= request.sampling.max_tokens or len(tokens.token_ids) >= self.max_context
        ):
            reason = "length"
        usage = None
        if reason is not None:
            text += "" if has_stopped else sequence.stop_text.flush()
            usage = Usage(len(request.prompt), sequence.num_generated, sequence.num_cached)
            self._finish(sequence)
        is_first = request.wants_prompt_logprobs and sequence.num_generated == 1
        prompt_logprobs = tuple(sequence.prompt_logprobs) if is_first else ()
        experts = (
            tuple(tuple(e for e in layer if e >= 0) for layer in routed.tolist())
            if request.wants_experts
            else ()
        )
        return TokenEvent(
            request.id, sampled.token_id, text, sampled.logprob, sampled.alternatives, experts, prompt_logprobs,
            reason, usage,
        )  # fmt: skip

    def _finish(self, sequence: _Sequence) -> None:
        self._num_finished += 1
        sequence.tokens.release()
        self._running.remove(sequence)
        del self._by_id[sequence.request.id]


class _Sequence:
    """A request on its way. Ordered by priority, then by arrival."""

    def __init__(self, request: Request, engine: Engine) -> None:
        self.request = request
        self.order = (request.priority, engine._num_added)
        self.tokens = PagedTokens(
            request.prompt, engine._kv, engine._pools, is_fresh=request.wants_prompt_logprobs
        )
        self.sampler = Sampler(request.sampling, self.tokens.token_ids, engine._vocab_size)
        self.stop_text = StopText(engine.tokenizer, request.sampling.stop)
        self.num_generated = self.num_cached = 0
        self.prompt_logprobs: list[TokenLogprob | None] = [None]
        self._embeddings: Tensor | None = None  # of a prompt with pictures, until it is read

    def __lt__(self, other: _Sequence) -> bool:
        return self.order < other.order

    def portion(self, count: int, embed: Callable[..., Tensor]) -> Portion:
        """The next tokens for the model; logits of the last if that ends the sequence so far."""
        start, prompt = self.tokens.table.length, self.request.prompt
        if len(prompt.tiles) and start < len(prompt):
            if self._embeddings is None:
                self._embeddings = embed(prompt.token_ids, prompt.tiles, prompt.patch_positions)
            known = self._embeddings[start : start + count]
            rest = self.tokens.token_ids[start + len(known) : start + count]
            embeddings = torch.cat([known, embed(torch.tensor(rest, dtype=torch.int64))]) if rest else known
            if start + count >= len(prompt):
                self._embeddings = None
        else:
            embeddings = embed(torch.tensor(self.tokens.token_ids[start : start + count]))
        if self.request.wants_prompt_logprobs and self.num_generated == 0:
            rows = list(range(count))
        else:
            rows = [count - 1] if count == self.tokens.num_left else []
        return Portion(self.tokens.table, embeddings, rows)

    def note_prompt_logprobs(self, logits: Tensor, num_read: int) -> None:
        """Of the tokens after each that was just read."""
        if not self.request.wants_prompt_logprobs or self.num_generated:
            return
        end = self.tokens.table.length
        following = self.tokens.token_ids[end - num_read + 1 : min(end + 1, len(self.request.prompt))]
        logprobs = logits[: len(following)].log_softmax(-1)
        for row, token_id in enumerate(following):
            self.prompt_logprobs.append(TokenLogprob(token_id, float(logprobs[row, token_id])))
