"""Text to token ids and back, in Llama 4's format: a tiktoken file, o200k's split pattern, 2048 specials."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tiktoken

from camelid.core.errors import DataError, InputError
from camelid.core.files import write_bytes_atomically
from camelid.inputs.protocols import AnyTokenizer
from camelid.inputs.special_tokens import (
    MIN_SPECIAL_TOKENS,
    NUM_SPECIAL_TOKENS,
    SPECIAL_TOKEN_NAMES,
    STOP_TOKEN_NAMES,
)

__all__ = ["SPLIT_PATTERN", "StreamDecoder", "Tokenizer"]

# The pattern of OpenAI's o200k_base (tiktoken, MIT); Llama 4 uses it byte for byte. A test compares it.
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SPLIT_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _CONTRACTION,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _CONTRACTION,
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

# tiktoken fails on longer texts, and needs quadratic time on longer runs without a place to split. Where Meta
# cuts, we cut: the cut decides which tokens come out.
_MAX_PIECE_CHARS = 400_000
_MAX_RUN_CHARS = 25_000
_LONG_RUN = re.compile(rf"\s{{{_MAX_RUN_CHARS + 1},}}|\S{{{_MAX_RUN_CHARS + 1},}}")


class Tokenizer:
    """A base vocabulary of byte strings, followed by a prefix of the table of special tokens.

    Ids 0..num_base_tokens-1 are the ranks of the byte strings; then come `num_special_tokens` specials.
    """

    def __init__(self, ranks: Mapping[bytes, int], num_special_tokens: int = NUM_SPECIAL_TOKENS) -> None:
        """`ranks` must be 0, 1, 2, ... and hold all 256 single bytes; raises DataError otherwise."""
        if not MIN_SPECIAL_TOKENS <= num_special_tokens <= NUM_SPECIAL_TOKENS:
            raise DataError(
                f"a tokenizer has {MIN_SPECIAL_TOKENS} to {NUM_SPECIAL_TOKENS} special tokens, "
                f"not {num_special_tokens}"
            )
        if sorted(ranks.values()) != list(range(len(ranks))):
            raise DataError(f"the {len(ranks)} ranks of a vocabulary must be 0..{len(ranks) - 1}, each once")
        missing = [value for value in range(256) if bytes([value]) not in ranks]
        if missing:
            raise DataError(f"a vocabulary needs all 256 bytes; {len(missing)} are missing: {missing[:8]}")
        self._ranks = dict(ranks)
        self._special_ids = {
            name: len(ranks) + offset for offset, name in enumerate(SPECIAL_TOKEN_NAMES[:num_special_tokens])
        }
        self._encoding = tiktoken.Encoding(
            name=f"llama4-{len(ranks)}-{num_special_tokens}",
            pat_str=SPLIT_PATTERN,
            mergeable_ranks=self._ranks,
            special_tokens={f"<|{name}|>": token_id for name, token_id in self._special_ids.items()},
        )
        self.stop_ids: tuple[int, ...] = tuple(self._special_ids[name] for name in STOP_TOKEN_NAMES)

    @classmethod
    def from_file(
        cls, path: Path, num_special_tokens: int = NUM_SPECIAL_TOKENS, *, vocab_size: int | None = None
    ) -> Tokenizer:
        """Reads tiktoken's text form, one `base64 rank` per line with ranks in order.

        A model's `vocab_size` says how many special tokens there are better than a number can. Raises DataError
        with file and line for anything else.
        """
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"{path}: cannot read the vocabulary: {error.strerror or error}") from error
        ranks: dict[bytes, int] = {}
        for rank, line in enumerate(lines):
            token = _parse_line(line, rank, f"{path}, line {rank + 1}")
            if token in ranks:
                raise DataError(f"{path}, line {rank + 1}: {token!r} is already in line {ranks[token] + 1}")
            ranks[token] = rank
        try:
            return cls(ranks, num_special_tokens if vocab_size is None else vocab_size - len(ranks))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def save(self, path: Path) -> None:
        """Writes the base vocabulary in tiktoken's text form."""
        lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in self.ranks.items()]
        write_bytes_atomically(path, b"".join(lines))

    @property
    def ranks(self) -> dict[bytes, int]:
        """The base vocabulary in order of rank."""
        return dict(sorted(self._ranks.items(), key=lambda item: item[1]))

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens as they are written, `<|name|>`, in order of their ids."""
        return {f"<|{name}|>": token_id for name, token_id in self._special_ids.items()}

    @property
    def num_base_tokens(self) -> int:
        return len(self._ranks)

    @property
    def num_special_tokens(self) -> int:
        return len(self._special_ids)

    @property
    def vocab_size(self) -> int:
        return self.num_base_tokens + self.num_special_tokens

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text. Text that looks like a special token stays text."""
        if len(text) <= _MAX_RUN_CHARS:
            return self._encoding.encode_ordinary(text)
        return [token_id for piece in _pieces(text) for token_id in self._encoding.encode_ordinary(piece)]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes behind token ids, specials as `<|name|>`; raises InputError on an id out of range."""
        for token_id in ids:
            if not 0 <= token_id < self.vocab_size:
                raise InputError(f"token id {token_id} is not in 0..{self.vocab_size - 1}")
        return self._encoding.decode_bytes(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Like `decode_bytes`, as text; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def token_bytes(self) -> list[bytes | None]:
        """What each id is in text; None for special tokens."""
        return [*self.ranks, *[None] * self.num_special_tokens]

    def special(self, name: str) -> int:
        """The id of a special token, named without `<|` and `|>`; raises InputError on an unknown name."""
        try:
            return self._special_ids[name]
        except KeyError:
            raise InputError(f"no special token {name!r} among the first {self.num_special_tokens}") from None

    def is_special(self, token_id: int) -> bool:
        return self.num_base_tokens <= token_id < self.vocab_size


class StreamDecoder:
    """Decodes token by token and never shows half a character."""

    def __init__(self, tokenizer: AnyTokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """The text that has become complete with this token; may be empty."""
        return self._utf8.decode(self._tokenizer.decode_bytes([token_id]))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole."""
        return self._utf8.decode(b"", final=True)


def _parse_line(line: bytes, rank: int, place: str) -> bytes:
    """The token in one line of a tiktoken file."""
    fields = line.split(b" ")
    if len(fields) != 2:
        raise DataError(f"{place}: expected base64, one space and a rank, got {line[:60]!r}")
    try:
        token = base64.b64decode(fields[0], validate=True)
    except binascii.Error as error:
        raise DataError(f"{place}: {fields[0][:60]!r} is not base64: {error}") from error
    if not token:
        raise DataError(f"{place}: an empty token")
    if fields[1] != b"%d" % rank:
        raise DataError(f"{place}: expected rank {rank}, got {fields[1][:20]!r}")
    return token


def _pieces(text: str) -> Iterator[str]:
    """The text cut every 400,000 characters, and there wherever (non-)whitespace runs on for 25,000."""
    for start in range(0, len(text), _MAX_PIECE_CHARS):
        block = text[start : start + _MAX_PIECE_CHARS]
        done = 0
        for run in _LONG_RUN.finditer(block):
            for cut in range(run.start() + _MAX_RUN_CHARS, run.end(), _MAX_RUN_CHARS):
                yield block[done:cut]
                done = cut
        yield block[done:]
