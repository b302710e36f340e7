"""Conversations for models that bring their chat format as a Jinja template, in Hugging Face's convention.

The template sees the messages as they are, except that what looks like a control token in them is broken up by a
character that occurs nowhere else and is taken out again afterwards. So only the template writes control tokens,
and for all other text the ids are those of encoding the rendered conversation as a whole.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import torch
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from camelid.core.batch import ModelInput
from camelid.core.errors import DataError, InputError
from camelid.core.messages import Message, Part, TextPart
from camelid.inputs.json_tokenizer import JsonTokenizer

__all__ = ["TEXT_FILES", "TemplateFormat", "read_text_files"]

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
TEMPLATE, GENERATION = "chat_template.jinja", "generation_config.json"
TEXT_FILES = (TOKENIZER, SETTINGS, TEMPLATE, GENERATION)
# Whatever a file says its end is, models also end with these (llama.cpp keeps such a list as well).
END_NAMES = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "</s>")
SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
# Where a character that no text uses is looked for: noncharacters, then the last private plane.
SELDOM = (range(0xFDD0, 0xFDF0), range(0x100000, 0x10FFFE))


def read_text_files(directory: Path) -> dict[str, str]:
    """Those of `TEXT_FILES` that a model folder has."""
    return {
        name: (directory / name).read_text(encoding="utf-8")
        for name in TEXT_FILES
        if (directory / name).is_file()
    }


class TemplateFormat:
    """Text only. `names` are the template's special tokens, such as `bos_token`, by their full names."""

    def __init__(self, tokenizer: JsonTokenizer, template: str, names: Mapping[str, str]) -> None:
        self.tokenizer = tokenizer
        self._names = dict(names)
        self._source = template
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _strftime_now}
        try:
            self._template = environment.from_string(template)
        except TemplateError as error:
            raise DataError(f"the chat template is no Jinja that we know: {error}") from error
        controls = sorted(tokenizer.control_ids, key=len, reverse=True)
        self._control = re.compile(f"({'|'.join(map(re.escape, controls)) or '(?!)'})")
        self._starts = tuple({name[:end] for name in controls for end in range(1, len(name))})
        self._ends = tuple({name[start:] for name in controls for start in range(1, len(name))})

    @classmethod
    def from_files(cls, files: Mapping[str, str], vocab_size: int, origin: str) -> TemplateFormat:
        """From the contents of `TEXT_FILES`; DataError names the one that lacks or is broken."""
        if TOKENIZER not in files:
            raise DataError(f"{origin} has no {TOKENIZER}")
        settings, generation = (_parsed(files, name, origin) for name in (SETTINGS, GENERATION))
        template = files.get(TEMPLATE) or _template_in(settings)
        if template is None:
            raise DataError(f"{origin} has no chat template, neither {TEMPLATE} nor in {SETTINGS}")
        names = {}
        for name in SPECIAL_NAMES:
            token = settings.get(name)
            if token is not None:
                names[name] = token["content"] if isinstance(token, dict) else str(token)
        tokenizer = JsonTokenizer(
            files[TOKENIZER], vocab_size, control_text=template, origin=f"{origin}, {TOKENIZER}"
        )
        ends = generation.get("eos_token_id") or ()
        ids = {ends} if isinstance(ends, int) else set(ends)
        ids |= {tokenizer.control_ids.get(name, -1) for name in (*END_NAMES, names.get("eos_token", ""))}
        tokenizer.stop_ids = tuple(sorted(ids - {-1}))
        return cls(tokenizer, template, names)

    def encode(self, messages: Sequence[Message], *, for_generation: bool = False) -> ModelInput:
        """A conversation as the template has it; `for_generation` opens an assistant message at the end.

        Otherwise the loss is on what the assistant says and on the token that ends it. InputError for pictures
        and clips, and for what the template refuses.
        """
        if not messages:
            raise InputError("a conversation needs at least one message, got none")
        if any(message.tool_calls for message in messages):
            raise InputError(
                "calls of tools are known in Llama 4's own format only, not in a chat template's"
            )
        mark = self._unused_character(messages)
        rendered = self._rendered(messages, for_generation, mark)
        ids, starts = self._tokens(rendered, mark)
        weights = [0.0] * len(ids)
        if not for_generation:
            for index, message in enumerate(messages):
                if message.role == "assistant":
                    opened = self._rendered(messages[:index], True, mark) if index else ""
                    if not opened or not rendered.startswith(opened):
                        raise InputError(
                            f"the chat template does not say where the answer in message {index + 1} is"
                        )
                    first = bisect_left(starts, len(opened.replace(mark, "")))
                    for place in range(first, len(ids)):
                        weights[place] = 1.0
                        if ids[place] in self.tokenizer.stop_ids:
                            break
        return _text_input(ids, weights)

    def encode_document(self, parts: Sequence[Part]) -> ModelInput:
        """bos (for want of it, eos), the text, eos. The loss is on all text and the end."""
        if not parts:
            raise InputError("a document needs at least one part, got none")
        ends = [name for name in (self._names.get("bos_token"), self._names.get("eos_token")) if name]
        if not ends:
            raise InputError("this tokenizer names no token that begins or ends a document")
        ids = self.tokenizer.encode(_text_of(parts))
        first, last = self.tokenizer.control(ends[0]), self.tokenizer.control(ends[-1])
        return _text_input([first, *ids, last], [0.0] + [1.0] * (len(ids) + 1))

    def _unused_character(self, messages: Sequence[Message]) -> str:
        used = set(self._source).union(*(_text_of(message.parts) for message in messages))
        return next(chr(code) for code in chain(*SELDOM) if chr(code) not in used)

    def _rendered(self, messages: Sequence[Message], for_generation: bool, mark: str) -> str:
        """What the template writes, with `mark` in all that must stay text."""
        turns = [
            {
                "role": "tool" if message.role == "ipython" else message.role,
                "content": self._broken_up(_text_of(message.parts), mark),
            }
            for message in messages
        ]
        try:
            return self._template.render(
                messages=turns,
                add_generation_prompt=for_generation,
                tools=None,
                documents=None,
                **self._names,
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise InputError(f"the model's chat template refuses this conversation: {error}") from error

    def _tokens(self, rendered: str, mark: str) -> tuple[list[int], list[int]]:
        """Ids, and where each starts in the text without marks. What lies between control tokens is encoded whole."""
        ids: list[int] = []
        starts: list[int] = []
        position = 0
        for piece in self._control.split(rendered):
            text = piece.replace(mark, "")
            if piece in self.tokenizer.control_ids:
                found, places = [self.tokenizer.control(piece)], [0]
            else:
                found, places = self.tokenizer.encode_with_starts(text)
            ids += found
            starts += [position + place for place in places]
            position += len(text)
        return ids, starts

    def _broken_up(self, text: str, mark: str) -> str:
        """The text with `mark` inside all that looks like a control token, or like the start or end of one.

        Templates may trim: a mark never stands outside of the surrounding whitespace.
        """
        while self._control.search(text):
            text = self._control.sub(lambda found: found.group()[0] + mark + found.group()[1:], text)
        core = text.strip()
        before = mark if core.startswith(self._ends) else ""
        after = mark if core.endswith(self._starts) else ""
        return text.replace(core, f"{before}{core}{after}", 1) if before or after else text


def _text_of(parts: Sequence[Part]) -> str:
    for part in parts:
        if not isinstance(part, TextPart):
            what = type(part).__name__.removesuffix("Part").lower()
            raise InputError(f"this model has no vision encoder and cannot see: {what}")
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _text_input(ids: list[int], weights: list[float]) -> ModelInput:
    return ModelInput(
        token_ids=torch.tensor(ids, dtype=torch.long),
        loss_weights=torch.tensor(weights),
        tiles=torch.empty((0, 3, 1, 1), dtype=torch.uint8),
        patch_positions=torch.empty(0, dtype=torch.long),
    )


def _parsed(files: Mapping[str, str], name: str, origin: str) -> dict[str, Any]:
    try:
        values: Any = json.loads(files.get(name, "{}"))
    except ValueError as error:
        raise DataError(f"{origin}, {name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{origin}, {name} is not a JSON object")
    return values


def _template_in(settings: Mapping[str, Any]) -> str | None:
    """The template in tokenizer_config.json: a text, or the one called `default` of several."""
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = {item["name"]: item["template"] for item in found}.get("default")
    return found


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
