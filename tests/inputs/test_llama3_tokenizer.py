"""The first 20,000 tokens of Llama 3's own vocabulary, as a GGUF would hold them, against tiktoken on Meta's file."""

from __future__ import annotations

import base64
import re
from itertools import islice
from pathlib import Path

import pytest
import tiktoken

from camelid.checkpoint.gguf_tokenizer import SPLITS, gguf_text_files
from camelid.core import Message
from camelid.inputs import TemplateFormat
from camelid.inputs.byte_alphabet import byte_of_character

NUM_TOKENS = 20_000
SPECIALS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TEXTS = [
    "Hello, world!", " Hello", "It's WE'LL", "1234567 12  34", "a\n\n\nb \n c", "\t\tx", "trailing   ", "Привет, мир",
    "日本語のテキスト", "🐪🐫", "def f(x):\n    return x+1\r\n", "<|eot_id|><|begin_of_text|>", "e\u0301 é", "a<b>",
    "information internationalization", "////----====", "٣٤٥ ½ Ⅷ ²", "x" * 50, "",
]  # fmt: skip


@pytest.fixture(scope="module")
def meta(meta_dir: Path) -> tiktoken.Encoding:
    """Its source is read, not run."""
    folder = meta_dir.with_name("llama3")
    lines = (folder / "tokenizer.model").read_bytes().splitlines()[:NUM_TOKENS]
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    source = (folder / "tokenizer.py").read_text(encoding="utf-8")
    pattern = re.search(r'pat_str = r"(.*)"', source)
    assert pattern is not None
    return tiktoken.Encoding(name="llama3", pat_str=pattern[1], mergeable_ranks=ranks, special_tokens={})


def halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merge made this one: merging by rank, stopped before its own."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        places = range(len(parts) - 1)
        best = min(places, key=lambda i: ranks.get(parts[i] + parts[i + 1], NUM_TOKENS))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


@pytest.fixture(scope="module")
def ours(meta: tiktoken.Encoding) -> TemplateFormat:
    ranks = {meta.decode_single_token_bytes(token_id): token_id for token_id in range(NUM_TOKENS)}
    character = {value: name for name, value in byte_of_character().items()}

    def spelled(token: bytes) -> str:
        return "".join(character[value] for value in token)

    merges = [" ".join(map(spelled, halves(token, ranks))) for token in islice(ranks, 256, None)]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": [*map(spelled, ranks), *SPECIALS],
        "tokenizer.ggml.token_type": [1] * NUM_TOKENS + [3] * len(SPECIALS),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": NUM_TOKENS,
        "tokenizer.ggml.eos_token_id": NUM_TOKENS + 3,
        "tokenizer.chat_template": TEMPLATE,
    }
    files = gguf_text_files(metadata, "llama3")
    assert "TemplateProcessing" in files["tokenizer.json"], "Llama 3 begins every text with bos"
    return TemplateFormat.from_files(files, NUM_TOKENS + len(SPECIALS), "llama3")


def test_ids_are_those_of_tiktoken(ours: TemplateFormat, meta: tiktoken.Encoding) -> None:
    for text in TEXTS:
        assert ours.tokenizer.encode(text) == meta.encode_ordinary(text), text
        assert ours.tokenizer.decode(ours.tokenizer.encode(text)) == text


def test_text_is_split_as_meta_splits(meta: tiktoken.Encoding) -> None:
    assert SPLITS["llama-bpe"][0]["pattern"]["Regex"] == meta._pat_str


def test_a_conversation(ours: TemplateFormat, meta: tiktoken.Encoding) -> None:
    """Llama 3's header, blank line, content and end; the blank line is a token of its own."""
    item = ours.encode([Message.of("user", " Hi <|eot_id|> "), Message.of("assistant", "Hello!")])
    bos, start, end, eot = range(NUM_TOKENS, NUM_TOKENS + 4)
    plain = meta.encode_ordinary
    expected = [bos, start, *plain("user"), end, *plain("\n\nHi <|eot_id|>"), eot]
    expected += [start, *plain("assistant"), end, *plain("\n\nHello!"), eot]
    assert item.token_ids.tolist() == expected
    assert item.loss_weights.sum() == len(plain("Hello!")) + 1
    assert ours.tokenizer.stop_ids == (eot,)
    document = ours.encode_document(Message.of("user", "x").parts).token_ids.tolist()
    assert document == [bos, *plain("x"), eot]
