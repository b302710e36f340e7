"""Many requests at once: each step takes a token of every running sequence and portions of prompts that wait."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from camelid.core import Constraint, FinishReason
from camelid.core.config import Config
from camelid.core.errors import ConstraintError, InputError
from camelid.infer.cache_plan import CachePlan
from camelid.infer.constraints import Constraints
from camelid.infer.draft import Draft, Guess, check_draft
from camelid.infer.page_pool import PagePool
from camelid.infer.request import EngineStats, QueueFull, Request, TokenEvent
from camelid.infer.runner import make_runner
from camelid.infer.running_request import RunningRequest
from camelid.infer.sampler import Sampled, Sampler
from camelid.infer.sequence import PagedTokens, Pools
from camelid.infer.stop_text import StopText
from camelid.inputs import AnyTokenizer
from camelid.model import Llama4
from camelid.model.config import LayerType
from camelid.model.native import Portion
from camelid.model.paged_kv import PagedKV
from camelid.quantize import Precision

__all__ = ["Engine", "EngineConfig"]


@dataclass(frozen=True)
class EngineConfig(Config):
    """Limits of an engine. A step reads at most `step_tokens`: prompts beyond it are read in portions."""

    max_running: int = 64
    max_waiting: int = 256
    step_tokens: int = 512
    precision: Precision = Precision()
    num_draft_tokens: int = 4
    """Guesses of a draft that one step judges, if there is a draft."""


class Engine:
    """Continuous batching over paged caches. Not for several threads at once (`AsyncEngine` is).

    Where the model runs in native code, a request's tokens depend on nothing but the request.
    """

    def __init__(
        self,
        model: Llama4,
        tokenizer: AnyTokenizer,
        plan: CachePlan,
        config: EngineConfig = EngineConfig(),
        draft: Llama4 | None = None,
    ) -> None:
        text = model.config.text
        self.config, self.tokenizer, self.max_context = config, tokenizer, plan.max_context
        self._vocab_size = text.vocab_size
        self._constraints = Constraints(tokenizer, text.vocab_size)
        self._kv = PagedKV(text, plan.num_pages, plan.dtype)
        self._pools: Pools = {kind: PagePool(kind, count) for kind, count in plan.num_pages.items()}
        self._runner = make_runner(model, self._kv, config.precision.weight_bits)
        self._draft = None
        if draft is not None:
            check_draft(draft.config.text, text)
            self._draft = Draft(draft, plan, config.precision.weight_bits)
        self._waiting: list[RunningRequest] = []  # a heap
        self._running: list[RunningRequest] = []
        self._by_id: dict[str, RunningRequest] = {}
        self._num_added = self._num_finished = self._num_cancelled = self._num_preempted = 0
        self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0
        self._guessed_tokens = self._accepted_tokens = 0

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
            guessed_tokens=self._guessed_tokens,
            accepted_tokens=self._accepted_tokens,
            pages_free=sum(pool.num_free for pool in self._pools.values()),
            pages_total=sum(pool.num_pages for pool in self._pools.values()),
            pages_known=sum(pool.num_known for pool in self._pools.values()),
        )

    def prepare(self, constraint: Constraint) -> None:
        """Compiles a constraint, in any thread, so that `add` does not take long. Raises ConstraintError."""
        self._constraints.matcher(constraint)

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
        sampling, fresh = request.sampling, request.wants_prompt_logprobs
        tokens = PagedTokens(request.prompt, self._kv, self._pools, is_fresh=fresh)
        matcher = self._constraints.matcher(sampling.constraint) if sampling.constraint else None
        sampler = Sampler(sampling, tokens.token_ids, self._vocab_size, matcher)
        stop_text = StopText(self.tokenizer, sampling.stop)
        sequence = RunningRequest(request, self._num_added, tokens, sampler, stop_text)
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
        self._guess(planned)
        portions = [sequence.portion(count, self._runner.embed) for sequence, count in planned]
        logits, routed = self._runner.step(portions)
        likeliest = logits.argmax(-1).tolist()
        events: list[TokenEvent] = []
        end_row = end_logit = 0
        for (sequence, count), portion in zip(planned, portions, strict=True):
            first_row, first_logit = end_row, end_logit
            end_row, end_logit = end_row + len(portion.inputs), end_logit + len(portion.logit_rows)
            if sequence.num_generated == 0:
                self._prompt_tokens += count
                sequence.note_prompt_logprobs(logits[first_logit:end_logit], count)
            guesses, tokens = sequence.take_guesses(), sequence.tokens
            tokens.table.length -= len(guesses)
            tokens.learn(count)
            if tokens.num_left:
                continue
            # As if tokens came one by one: a row's logits count once the token that it has read was chosen.
            self._guessed_tokens += len(guesses)
            for index, guess in enumerate([*guesses, None]):
                row, logit = first_row + count - 1 + index, end_logit - 1 - len(guesses) + index
                events.append(self._next(sequence, logits[logit], likeliest[logit], routed[:, row]))
                if events[-1].finish_reason is not None or events[-1].token_id != guess:
                    break
                self._accepted_tokens += 1
                tokens.table.length += 1
                tokens.learn(1)
        return events

    def _next(self, sequence: RunningRequest, logits: Tensor, likeliest: int, routed: Tensor) -> TokenEvent:
        try:
            sampled = sequence.sampler(logits, likeliest)
        except ConstraintError as error:
            return self._give_up(sequence, str(error))
        return self._advance(sequence, sampled, routed if sequence.request.wants_experts else None)

    def _guess(self, planned: Sequence[tuple[RunningRequest, int]]) -> None:
        """The draft reads what the model will read, and guesses for sequences that go on."""
        if self._draft is None:
            return
        reading, guessing = [], []
        for sequence, count in planned:
            if sequence.draft_table is None:
                sequence.draft_table = self._draft.table(sequence.tokens.table)
            if len(sequence.request.prompt.tiles):
                continue  # the draft may see nothing, or other tiles
            if sequence.guess_count:
                sequence.guess = Guess(
                    sequence.draft_table,
                    sequence.unread_by_draft(),
                    sequence.sampler.fork(),
                    sequence.guess_count,
                )
                guessing.append(sequence.guess)
            elif sequence.tokens.num_left > 1 or count > 1:
                start = sequence.draft_table.length = sequence.tokens.table.length
                reading.append(
                    Portion(sequence.draft_table, sequence.tokens.token_ids[start : start + count], [])
                )
        self._draft.read(reading)
        self._draft.guess(guessing)

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

    def _preempt(self, sequence: RunningRequest) -> None:
        """Back to waiting, without pages. What it has generated stays, and is read like a prompt later."""
        self._num_preempted += 1
        sequence.tokens.release()
        self._running.remove(sequence)
        heapq.heappush(self._waiting, sequence)

    def _plan(self) -> list[tuple[RunningRequest, int]]:
        """How many of its tokens each sequence reads in this step; pages are taken, for guesses too.

        If pages run out, the last in order gives its own.
        """
        self._running.sort()
        budget = max(self.config.step_tokens - sum(s.tokens.num_left == 1 for s in self._running), 1)
        planned: list[tuple[RunningRequest, int]] = []
        for sequence in list(self._running):
            if sequence not in self._running:
                continue  # preempted a moment ago
            left = sequence.tokens.num_left
            count = left if left == 1 else sequence.tokens.limit(min(left, budget))
            sequence.guess_count = self._num_guesses(sequence) if left == 1 and self._draft else 0
            if not count or not self._reserve(sequence, count + sequence.guess_count):
                continue
            budget -= count if left > 1 else 0
            planned.append((sequence, count))
        return planned

    def _num_guesses(self, sequence: RunningRequest) -> int:
        """Never to the end of a chunk, whose pages go: the draft must have read all of it by then."""
        if len(sequence.request.prompt.tiles) or not sequence.num_generated:
            return 0
        tokens, left = sequence.tokens, sequence.request.sampling.max_tokens - sequence.num_generated
        room = min(left, self.max_context - len(tokens.token_ids)) - 1
        return max(
            0, min(self.config.num_draft_tokens, room, tokens.limit(self.config.num_draft_tokens + 2) - 2)
        )

    def _reserve(self, sequence: RunningRequest, count: int) -> bool:
        sequence.tokens.drop_past_chunk()
        while not self._has_free(sequence.tokens.pages_needed(count)):
            victim = max(self._running)
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.tokens.reserve(count)
        return True

    def _advance(self, sequence: RunningRequest, sampled: Sampled, routed: Tensor | None) -> TokenEvent:
        """After all its tokens were read: one more. `routed`: the experts of the last, [layers top_k], if asked for."""
        request, tokens = sequence.request, sequence.tokens
        tokens.token_ids.append(sampled.token_id)
        sequence.num_generated += 1
        self._generated_tokens += 1
        is_stop = sampled.token_id in self.tokenizer.stop_ids
        text, has_stopped = ("", False) if is_stop else sequence.stop_text.feed(sampled.token_id)
        reason: FinishReason | None = None
        if is_stop or has_stopped or sampled.is_last:
            reason = "stop"
        elif (
            sequence.num_generated >= request.sampling.max_tokens or len(tokens.token_ids) >= self.max_context
        ):
            reason = "length"
        usage = None
        if reason is not None:
            text += "" if has_stopped else sequence.stop_text.flush()
            usage = sequence.usage
            self._finish(sequence)
        is_first = request.wants_prompt_logprobs and sequence.num_generated == 1
        prompt_logprobs = tuple(sequence.prompt_logprobs) if is_first else ()
        experts = () if routed is None else tuple(tuple(e for e in row if e >= 0) for row in routed.tolist())
        return TokenEvent(
            request.id, sampled.token_id, text, sampled.logprob, sampled.alternatives, experts, prompt_logprobs,
            reason, usage,
        )  # fmt: skip

    def _give_up(self, sequence: RunningRequest, error: str) -> TokenEvent:
        self._finish(sequence)
        text, usage = sequence.stop_text.flush(), sequence.usage
        return TokenEvent(sequence.request.id, -1, text, finish_reason="cancelled", usage=usage, error=error)

    def _finish(self, sequence: RunningRequest) -> None:
        self._num_finished += 1
        sequence.tokens.release()
        self._running.remove(sequence)
        del self._by_id[sequence.request.id]
