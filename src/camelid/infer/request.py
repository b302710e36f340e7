"""What goes into the engine and what comes out, a token at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from camelid.core import FinishReason, ModelInput, SamplingParams, Usage

__all__ = ["EngineStats", "QueueFull", "Request", "TokenEvent", "TokenLogprob"]


class QueueFull(Exception):
    """So many requests wait that one more would only wait longer."""


@dataclass(frozen=True)
class Request:
    """One prompt to be continued. Smaller priorities go first; equal ones in the order of their coming."""

    id: str
    prompt: ModelInput
    sampling: SamplingParams = field(default_factory=SamplingParams)
    priority: int = 0
    wants_experts: bool = False
    wants_prompt_logprobs: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """A token's log-probability, natural logarithm, as the model gave it: before temperature, filters and penalties."""

    token_id: int
    logprob: float


@dataclass(frozen=True)
class TokenEvent:
    """One generated token of one request.

    `text` is what it adds to the answer: empty while a character is incomplete or a stop string may be beginning, more
    than one token's worth when either is settled. The last event has a finish reason and the usage; its token may be
    the stop token, which has no text. Where a constraint turns out to allow nothing more, the last event has no token
    (-1) but an `error`, and is cancelled.
    """

    request_id: str
    token_id: int
    text: str
    logprob: TokenLogprob | None = None  # of this token, if asked for
    alternatives: tuple[TokenLogprob, ...] = ()  # the likeliest tokens, likeliest first, if asked for
    experts: tuple[tuple[int, ...], ...] = ()  # per layer those chosen, none in dense layers, if asked for
    prompt_logprobs: tuple[
        TokenLogprob | None, ...
    ] = ()  # with the first event, if asked for; None for the first token
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    error: str | None = None
    is_followed: bool = False  # in a stream: its next event has come as well


@dataclass(frozen=True)
class EngineStats:
    """Counts since the start, and how full the engine is."""

    num_waiting: int
    num_running: int
    num_finished: int
    num_cancelled: int
    num_preempted: int
    prompt_tokens: int
    cached_prompt_tokens: int
    generated_tokens: int
    guessed_tokens: int
    """By the draft; 0 without one."""
    accepted_tokens: int
    """Of those, how many the model chose as well."""
    pages_free: int
    pages_total: int
    pages_known: int = 0  # of those free, the ones that still know the beginning of an earlier prompt
