"""A tokenizer and its chat format as transformers and llama.cpp read them: tokenizer.json and what belongs to it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as BpeTokenizer

from camelid.inputs.byte_alphabet import byte_of_character
from camelid.inputs.tokenizer import SPLIT_PATTERN, Tokenizer

__all__ = ["hf_tokenizer_files"]

# `ChatFormat` in its default style: pictures where the content lists them, tools with the first user (or in the
# system turn, with transformers' own `tools_in_user_message=False`), calls and results in JSON.
CHAT_TEMPLATE = """\
{%- macro written(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for part in content or [] %}
            {%- if part.type not in ('text', 'image') %}
                {{- raise_exception('content is text, or a list of parts of the types text and image') }}
            {%- endif %}
            {{- '<|image|>' if part.type == 'image' else part.text }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set is_with_user = tools_in_user_message is not defined or tools_in_user_message %}
{%- set has_system = messages[0].role == 'system' %}
{%- set opening = messages[1 if has_system else 0] %}
{%- if documents %}
    {{- raise_exception('this template has no place for documents') }}
{%- elif tools and is_with_user and (opening is not defined or opening.role != 'user') %}
    {{- raise_exception("tools stand with the user's first message, which must open the talk") }}
{%- endif %}
{%- set offer %}
    {%- if is_with_user %}
        {{- 'Given the following functions, please respond with a JSON for a function call ' }}
        {{- 'with its proper arguments that best answers the given prompt.\\n\\n' }}
    {%- else %}
        {{- 'You have access to the following functions. ' }}
        {{- 'To call a function, please respond with JSON for a function call.' }}
    {%- endif %}
    {{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
    {{- 'Do not use variables.\\n\\n' }}
    {%- for tool in tools or [] %}
        {{- tool | tojson(indent=4) ~ '\\n\\n' }}
    {%- endfor %}
{%- endset %}
{{- bos_token }}
{%- if tools and not is_with_user and not has_system %}
    {{- '<|header_start|>system<|header_end|>\\n\\nEnvironment: ipython\\n' ~ offer ~ '<|eot|>' }}
{%- endif %}
{%- for message in messages %}
    {%- set role = 'ipython' if message.role == 'tool' else message.role %}
    {%- set shows = message.content is not string and message.content is sequence and message.content
        | selectattr('type', 'equalto', 'image') | list %}
    {%- if role not in ('system', 'user', 'assistant', 'ipython') %}
        {{- raise_exception('roles are system, user, assistant, ipython and tool, not ' ~ role) }}
    {%- elif message.tool_calls and role != 'assistant' %}
        {{- raise_exception('only the assistant calls tools') }}
    {%- elif role == 'ipython' and (shows or message.content is mapping) %}
        {{- raise_exception('what a tool answered is text') }}
    {%- endif %}
    {%- set text = written(message.content) %}
    {%- set before = '' %}
    {%- if tools and has_system and loop.first %}
        {%- set before = 'Environment: ipython\\n' ~ ('' if is_with_user else offer) %}
    {%- elif tools and is_with_user and loop.index0 == (1 if has_system else 0) %}
        {%- set before = offer %}
    {%- endif %}
    {%- if before %}
        {%- set text = before ~ (text if shows else text | trim) %}
    {%- endif %}
    {{- '<|header_start|>' ~ role ~ '<|header_end|>\\n\\n' }}
    {%- if message.tool_calls %}
        {{- '<|python_start|>' ~ text ~ '<|python_end|>' }}
        {%- for call in message.tool_calls %}
            {%- if call.function.arguments is not mapping %}
                {{- raise_exception('the arguments of a call are an object, not text') }}
            {%- endif %}
            {{- {'name': call.function.name, 'parameters': call.function.arguments} | tojson }}
        {%- endfor %}
    {%- else %}
        {{- text | tojson if role == 'ipython' else text }}
    {%- endif %}
    {{- '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header_start|>assistant<|header_end|>\\n\\n' }}
{%- endif %}
"""


def hf_tokenizer_files(tokenizer: Tokenizer, context: int, patch_size: int | None) -> dict[str, str]:
    """File contents by name. `context` in tokens; `patch_size` in pixels for a model that sees, else None."""
    bos, eos, pad = (f"<|{name}|>" for name in ("begin_of_text", "eot", "finetune_right_pad"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "pad_token": pad,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    generation = {
        "bos_token_id": tokenizer.special("begin_of_text"),
        "eos_token_id": list(tokenizer.stop_ids),
        "pad_token_id": tokenizer.special("finetune_right_pad"),
    }
    files = {
        "tokenizer.json": tokenizer_json(tokenizer),
        "tokenizer_config.json": _text(settings),
        "chat_template.jinja": CHAT_TEMPLATE,
        "generation_config.json": _text(generation),
    }
    if patch_size is not None:
        processor = {
            "processor_class": "Llama4Processor",
            "patch_size": patch_size,
            "pixel_shuffle_ratio": 0.5,
        }
        files["processor_config.json"] = _text(processor)
    return files


def tokenizer_json(tokenizer: Tokenizer) -> str:
    """The vocabulary as byte-level BPE of the `tokenizers` library, which gives the same ids."""
    character = {byte: character for character, byte in byte_of_character().items()}

    def written(token: bytes) -> str:
        return "".join(character[byte] for byte in token)

    ranks = tokenizer.ranks
    halves = (_halves(token, ranks) for token in ranks if len(token) > 1)
    merges = [(written(left), written(right)) for left, right in halves]
    # ignore_merges: tiktoken takes a whole piece that is a token before it merges anything, and so does this.
    model = models.BPE({written(token): rank for token, rank in ranks.items()}, merges, ignore_merges=True)
    bpe = BpeTokenizer(model)
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in tokenizer.special_tokens]
    )
    bos = "<|begin_of_text|>"
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos} $B",
        special_tokens=[(bos, tokenizer.special("begin_of_text"))],
    )
    text: str = bpe.to_str()
    return text


def _halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The pair whose merging makes a token: what is left of its bytes after all merges of lower rank."""
    parts, own = [token[i : i + 1] for i in range(len(token))], ranks[token]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, own) for left, right in pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[best] >= own:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    if len(parts) == 2:
        return parts[0], parts[1]
    # No merges lead here: the token is only ever taken whole. Any split that exists will do, and is never used.
    for split in range(1, len(token)):
        if token[:split] in ranks and token[split:] in ranks:
            return token[:split], token[split:]
    return token[:1], token[1:]


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
