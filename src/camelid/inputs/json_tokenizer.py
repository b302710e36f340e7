"""Byte-level BPE out of a tokenizer.json, the form in which models other than Llama 4 bring their vocabulary.

The library's own encoder turns text that looks like a special token into that token. Here control tokens are
taken out of the encoder, so that they can only be asked for by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer as Encoder

from camelid.core.errors import DataError, InputError
from camelid.inputs.byte_alphabet import byte_of_character

__all__ = ["JsonTokenizer"]


class JsonTokenizer:
    """Control tokens are those that the file calls special and those named in `control_text`, a chat template.

    `vocab_size` is the model's, which may be larger than the vocabulary. DataError for other kinds of tokenizer.
    """

    def __init__(
        self,
        text: str,
        vocab_size: int,
        *,
        control_text: str = "",
        stop_names: Iterable[str] = (),
        origin: str = "tokenizer.json",
    ) -> None:
        self.vocab_size = vocab_size
        try:
            spec: dict[str, Any] = json.loads(text)
            if spec["model"]["type"] != "BPE" or not _is_byte_level(spec["decoder"]):
                raise DataError(f"{origin}: only byte-level BPE is supported")
            added = {token["content"]: token for token in spec["added_tokens"]}
            names = {name for name, token in added.items() if token["special"] or name in control_text}
            vocab: dict[str, int] = spec["model"]["vocab"]
            self.control_ids = {name: int(added[name]["id"]) for name in sorted(names)}
            for name in names:
                if len(name) < 2 or any(added[name].get(key) for key in ("lstrip", "rstrip", "single_word")):
                    raise DataError(
                        f"{origin}: control token {name!r} is matched in a way that we do not know"
                    )
            all_ids = vocab | {name: int(token["id"]) for name, token in added.items()}
            plain = {name: token_id for name, token_id in all_ids.items() if name not in names}
            if spec["model"].get("unk_token") in names:
                spec["model"]["unk_token"] = None
            spec["model"]["vocab"] = plain
            spec["added_tokens"] = [token for name, token in added.items() if name not in names]
            spec |= {"truncation": None, "padding": None, "post_processor": None}
            self._encoder = Encoder.from_str(json.dumps(spec))
        except DataError:
            raise
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{origin}: lacks or mistypes {error}") from error
        except Exception as error:  # the library raises nothing narrower
            raise DataError(f"{origin}: {error}") from error
        if max(all_ids.values()) >= vocab_size:
            raise DataError(
                f"{origin}: token id {max(all_ids.values())} in a model with a vocabulary of {vocab_size}"
            )
        bytes_of = byte_of_character()
        self._bytes = [b""] * vocab_size
        for name, token_id in all_ids.items():
            is_spelled = name not in added and all(character in bytes_of for character in name)
            self._bytes[token_id] = bytes(map(bytes_of.__getitem__, name)) if is_spelled else name.encode()
        self.stop_ids = tuple(sorted({self.control(name) for name in stop_names}))

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text. Text that looks like a control token stays text."""
        return self.encode_with_starts(text)[0]

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """Also where in the text each token starts, in characters."""
        encoded = self._encoder.encode(text, add_special_tokens=False)
        return encoded.ids, [start for start, _ in encoded.offsets]

    def token_bytes(self) -> list[bytes | None]:
        """What each id is in text; None for control tokens and ids without a token."""
        control = set(self.control_ids.values())
        return [None if index in control else text or None for index, text in enumerate(self._bytes)]

    def control(self, name: str) -> int:
        """The id of a control token by its full name, such as `<|im_end|>`; InputError for an unknown one."""
        try:
            return self.control_ids[name]
        except KeyError:
            raise InputError(f"no control token {name!r} among {len(self.control_ids)}") from None

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes behind token ids, control tokens by name; raises InputError on an id out of range."""
        for token_id in ids:
            if not 0 <= token_id < self.vocab_size:
                raise InputError(f"token id {token_id} is not in 0..{self.vocab_size - 1}")
        return b"".join(self._bytes[token_id] for token_id in ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Like `decode_bytes`, as text; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


def _is_byte_level(decoder: dict[str, Any] | None) -> bool:
    if decoder is None:
        return False
    return decoder["type"] == "ByteLevel" or any(map(_is_byte_level, decoder.get("decoders", ())))
