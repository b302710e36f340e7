"""How the next token is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from camelid.core.config import Config
from camelid.core.errors import ConfigError

__all__ = ["Constraint", "SamplingParams"]


@dataclass(frozen=True)
class Constraint(Config):
    """What an answer must be, all of it: an instance of a JSON schema, a match of a regex, a sentence of a grammar.

    JSON is written as `json.dumps` does. Regexes are Rust's, without look-around. Grammars are Lark's in llguidance's
    dialect, or GBNF.
    """

    kind: Literal["json_schema", "regex", "grammar"]
    text: str


@dataclass(frozen=True)
class SamplingParams(Config):
    """How tokens are chosen. Temperature 0 is greedy; the defaults switch every filter and penalty off.

    The repetition penalty divides (or multiplies, below zero) the logits of tokens in prompt and answer; presence and
    frequency penalties are subtracted for tokens in the answer, once and per occurrence.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0  # least probability, as a share of the largest
    seed: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, what is added to its logit)
    stop: tuple[str, ...] = ()  # the answer ends before the first of these
    num_logprobs: int | None = None  # 0: of the chosen token; more: also of as many of the likeliest
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        checks: dict[str, tuple[float, bool, str]] = {
            "max_tokens": (self.max_tokens, self.max_tokens >= 1, "at least 1"),
            "temperature": (self.temperature, 0 <= self.temperature < math.inf, "a number that is not negative"),
            "top_k": (self.top_k, self.top_k >= 0, "at least 0"),
            "top_p": (self.top_p, 0 < self.top_p <= 1, "in (0, 1]"),
            "min_p": (self.min_p, 0 <= self.min_p <= 1, "in [0, 1]"),
            "repetition_penalty": (
                self.repetition_penalty, 0 < self.repetition_penalty < math.inf, "a number above 0"
            ),
            "presence_penalty": (self.presence_penalty, math.isfinite(self.presence_penalty), "a number"),
            "frequency_penalty": (self.frequency_penalty, math.isfinite(self.frequency_penalty), "a number"),
            "num_logprobs": (self.num_logprobs or 0, (self.num_logprobs or 0) >= 0, "at least 0"),
        }  # fmt: skip
        for name, (value, is_sound, wanted) in checks.items():
            if not is_sound:
                raise ConfigError(f"{name} must be {wanted}, got {value}")
        for token_id, bias in self.logit_bias:
            if token_id < 0 or not bias < math.inf:
                raise ConfigError(f"logit_bias must map token ids to numbers, got {token_id}: {bias}")
        if "" in self.stop:
            raise ConfigError("stop must not hold an empty string, at which every answer would end")
