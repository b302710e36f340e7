"""Answers held to a JSON schema, a regex or a grammar. llguidance does the parsing; here it meets our vocabularies."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Float
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import any_to_lark
from torch import Tensor

from camelid.core import Constraint
from camelid.core.errors import ConstraintError
from camelid.inputs import AnyTokenizer

__all__ = ["ConstraintMatcher", "Constraints"]

# JSON as Python's json.dumps writes it: what models were trained to write, and no blanks without end.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MAX_COMPILED = 64
MAX_REASON_CHARS = 300
_GBNF_RULE = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)


class Constraints:
    """Compiles constraints for one vocabulary, and keeps those used last. Several threads may ask."""

    def __init__(self, tokenizer: AnyTokenizer, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._lock = threading.Lock()
        self._vocabulary: _Vocabulary | None = None  # takes a while: made for the first constraint
        self._compiled: OrderedDict[Constraint, LLMatcher] = OrderedDict()

    def matcher(self, constraint: Constraint) -> ConstraintMatcher:
        """At the start of an answer. Raises ConstraintError with the library's reason for what cannot be followed."""
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = _Vocabulary(self._tokenizer, self._vocab_size)
            vocabulary, known = self._vocabulary, self._compiled.get(constraint)
        compiled = _compile(constraint, vocabulary.tokens) if known is None else known
        with self._lock:
            self._compiled[constraint] = compiled
            self._compiled.move_to_end(constraint)
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            return ConstraintMatcher(compiled.deep_copy(), vocabulary)


class ConstraintMatcher:
    """Where one answer stands in its constraint. Implements the sampler's Matcher."""

    def __init__(self, matcher: LLMatcher, vocabulary: _Vocabulary) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    @property
    def is_finished(self) -> bool:
        """Whether the answer is whole and nothing can follow it."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def forbid(self, logits: Float[Tensor, "vocab"]) -> None:
        """Sets what may not come next to -inf, in place; tokens that end an answer may come where it is whole.

        Raises ConstraintError where nothing may come, or the library gives up.
        """
        allowed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8) & self._vocabulary.text_bits
        can_end = self._matcher.is_accepting()
        self._check()
        if not allowed.any() and not (can_end and self._vocabulary.stop_ids):
            raise ConstraintError("the constraint cannot be met: no token of this model may follow")
        forbidden = np.unpackbits(~allowed, count=len(logits), bitorder="little").view(np.bool_)
        if can_end:
            forbidden[self._vocabulary.stop_ids] = False
        logits.masked_fill_(torch.from_numpy(forbidden), -torch.inf)

    def accept(self, token_id: int) -> None:
        """This came. Raises ConstraintError if the library gives up on it."""
        if token_id not in self._vocabulary.stop_ids:
            self._matcher.consume_token(token_id)
            self._check()

    def copy(self) -> ConstraintMatcher:
        """Another that stands at the same place, and moves on by itself."""
        return ConstraintMatcher(self._matcher.deep_copy(), self._vocabulary)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ConstraintError(f"the constraint cannot be followed: {_reason(self._matcher.get_error())}")


class _Vocabulary:
    """Tokens as the library wants them.

    It is told that an answer ends with a token behind our last one, since a vocabulary may have several that do, or
    none. A grammar can ask for special tokens by name; the bits keep them out.
    """

    def __init__(self, tokenizer: AnyTokenizer, vocab_size: int) -> None:
        texts = tokenizer.token_bytes()
        texts += [None] * (vocab_size - len(texts))
        self.stop_ids = list(tokenizer.stop_ids)
        self.tokens = LLTokenizer(TokenizerWrapper(_Wrapped(tokenizer, texts)), n_vocab=vocab_size + 1)
        num_words = -(-(vocab_size + 1) // 32)
        is_text = np.zeros(num_words * 32, np.bool_)
        is_text[:vocab_size] = [text is not None for text in texts]
        is_text[self.stop_ids] = False
        self.text_bits = np.packbits(is_text, bitorder="little")


class _Wrapped:
    """What llguidance reads of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokenizer: AnyTokenizer, texts: list[bytes | None]) -> None:
        self._encode = tokenizer.encode
        self.tokens = [b"<|%d|>" % index if text is None else text for index, text in enumerate(texts)]
        self.special_token_ids = [index for index, text in enumerate(texts) if text is None]
        self.eos_token_id = len(texts)
        self._single = {text[0]: index for index, text in enumerate(texts) if text and len(text) == 1}
        self.tokens.append(b"<|end of answer|>")
        self.special_token_ids.append(self.eos_token_id)

    def __call__(self, text: str | bytes) -> list[int]:
        """Ids of text that the grammar leaves no choice about. Some tokenizers would put a blank in front of it."""
        data = text if isinstance(text, bytes) else text.encode()
        ids = self._encode(data.decode())
        if b"".join(self.tokens[token_id] for token_id in ids) == data:
            return ids
        return [self._single[value] for value in data]


def _compile(constraint: Constraint, tokens: LLTokenizer) -> LLMatcher:
    try:
        if constraint.kind == "json_schema":
            grammar = LLMatcher.grammar_from_json_schema(constraint.text, overrides=JSON_STYLE)  # type: ignore[arg-type]
        elif constraint.kind == "regex":
            grammar = LLMatcher.grammar_from_regex(constraint.text)
        else:
            is_gbnf = _GBNF_RULE.search(constraint.text)
            grammar = LLMatcher.grammar_from_lark(
                any_to_lark(constraint.text) if is_gbnf else constraint.text
            )
    except Exception as error:  # the library raises nothing narrower
        raise ConstraintError(f"{constraint.kind}: {_reason(str(error))}") from error
    matcher = LLMatcher(tokens, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
    if matcher.is_error():
        raise ConstraintError(f"{constraint.kind}: {_reason(matcher.get_error())}")
    return matcher


def _reason(text: str) -> str:
    """In one line, without the whole of a long pattern."""
    words = " ".join(word if len(word) <= 60 else f"{word[:50]}…" for word in text.split())
    return words if len(words) <= MAX_REASON_CHARS else f"{words[:MAX_REASON_CHARS]}…"
