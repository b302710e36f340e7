"""The tokenizer, against ids of Llama 4's real vocabulary, tiktoken's own pattern and damaged files."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest
import tiktoken_ext.openai_public as openai_public
from hypothesis import given
from hypothesis import strategies as st

from camelid.core.digest import sha256_of_file
from camelid.core.errors import DataError, InputError
from camelid.inputs import StreamDecoder, Tokenizer
from camelid.inputs.tokenizer import SPLIT_PATTERN, _pieces

LLAMA4_SHA256 = "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed"
LLAMA4_IDS = {
    "Hello world": [19873, 3817],
    "\n\n": [368],
    "\n\n\n": [2946],
    "system": [15651],
    "user": [1556],
    "assistant": [140680],
    "ipython": [607, 6934],
    "1234567": [7235, 19596, 35],
    " don't": [5863],
    "don't Don'T": [127161, 9613, 59842],
    "你好世界": [5098, 4219, 14287],
    "नमस्ते": [1479, 2511, 23194, 790],
    "  \n\tdéjà vu 😀": [3322, 9376, 397, 25961, 15088, 51358, 222],
    "def f(x):\n    return x**2\n": [1251, 288, 2595, 1960, 277, 677, 831, 442, 30, 198],
    "The capital of France is Paris.": [954, 7963, 323, 11698, 373, 13796, 26],
    "<|eot|>": [40, 104, 81, 359, 159276],
    "": [],
}


def test_split_pattern_is_tiktokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *args, **kwargs: {})
    assert openai_public.o200k_base()["pat_str"] == SPLIT_PATTERN


@pytest.mark.parametrize("text", LLAMA4_IDS)
def test_llama_4_ids(meta_tokenizer: Tokenizer, text: str) -> None:
    assert meta_tokenizer.encode(text) == LLAMA4_IDS[text]
    assert meta_tokenizer.decode(LLAMA4_IDS[text]) == text


def test_llama_4_numbers(meta_tokenizer: Tokenizer) -> None:
    assert (meta_tokenizer.num_base_tokens, meta_tokenizer.vocab_size) == (200_000, 202_048)
    assert meta_tokenizer.stop_ids == (200_001, 200_007, 200_008)
    assert meta_tokenizer.special("patch") == 200_092


def test_llama_4_file_is_written_byte_for_byte(meta_tokenizer: Tokenizer, tmp_path: Path) -> None:
    meta_tokenizer.save(tmp_path / "tokenizer.model")
    assert sha256_of_file(tmp_path / "tokenizer.model") == LLAMA4_SHA256


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    tokenizer.save(path)
    loaded = Tokenizer.from_file(path, num_special_tokens=128)
    assert loaded.vocab_size == tokenizer.vocab_size == 256 + 7 + 128
    assert loaded.encode("the user") == tokenizer.encode("the user") == [260, ord("e"), ord(" "), 259]


def test_survives_pickling(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("the user") == tokenizer.encode("the user")


def test_special_tokens_are_never_made_from_text(tokenizer: Tokenizer) -> None:
    for name in ("eot", "patch", "begin_of_text"):
        ids = tokenizer.encode(f"a<|{name}|>b")
        assert not any(map(tokenizer.is_special, ids))
        assert tokenizer.special(name) not in ids


def test_special_tokens_are_shown_by_name(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.special("header_start"), *tokenizer.encode("user"), tokenizer.special("header_end")]
    assert tokenizer.decode(ids) == "<|header_start|>user<|header_end|>"
    assert [tokenizer.is_special(token_id) for token_id in ids] == [True, False, True]


def test_unknown_ids_and_names_are_refused(tokenizer: Tokenizer) -> None:
    for token_id in (-1, tokenizer.vocab_size):
        with pytest.raises(InputError, match=f"token id {token_id} is not in 0..390"):
            tokenizer.decode([token_id])
        assert not tokenizer.is_special(token_id)
    with pytest.raises(InputError, match="'reasoning_thinking_start' among the first 128"):
        tokenizer.special("reasoning_thinking_start")


@given(st.text())
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.binary())
def test_stream_decoder_says_what_decode_says(tokenizer: Tokenizer, data: bytes) -> None:
    decoder = StreamDecoder(tokenizer)
    streamed = "".join(decoder.feed(byte) for byte in data) + decoder.flush()
    assert streamed == tokenizer.decode(list(data))


def test_stream_decoder_never_shows_half_a_character(tokenizer: Tokenizer) -> None:
    decoder = StreamDecoder(tokenizer)
    assert [decoder.feed(byte) for byte in "é😀".encode()] == ["", "é", "", "", "", "😀"]
    assert decoder.flush() == ""
    decoder.feed("é".encode()[0])
    assert decoder.flush() == "�"


def cut_as_meta_does(text: str) -> list[str]:
    """Meta's rule, character by character: every 400,000, and after 25,000 of one kind."""
    pieces, current, run = [], "", 0
    for index, char in enumerate(text):
        if index % 400_000 == 0:
            pieces, current, run = [*pieces, current], "", 0
        is_same_kind = bool(current) and char.isspace() == current[-1].isspace()
        run = run + 1 if is_same_kind else 1
        if run > 25_000:
            pieces, current, run = [*pieces, current], "", 1
        current += char
    return [piece for piece in [*pieces, current] if piece]


@pytest.mark.parametrize(
    "text",
    ["a" * 60_000, " " * 25_001 + "b" * 25_000, "ab cd " * 70_000, "x" * 399_990 + " y " * 10 + "z" * 50_000],
    ids=["one run", "two runs", "many blocks", "run across a block"],
)
def test_long_text_is_cut_where_meta_cuts(tokenizer: Tokenizer, text: str) -> None:
    assert [piece for piece in _pieces(text) if piece] == cut_as_meta_does(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def lines_of_bytes() -> list[bytes]:
    return [base64.b64encode(bytes([value])) + b" %d" % value for value in range(256)]


@pytest.mark.parametrize(
    ("line", "content", "message"),
    [
        (7, b"BQ== 9", "line 7: expected rank 6, got b'9'"),
        (3, b"!!!! 2", "line 3: b'!!!!' is not base64"),
        (3, b"Ag==  2", "line 3: expected base64, one space and a rank"),
        (3, b"", "line 3: expected base64, one space and a rank"),
        (3, b" 2", "line 3: an empty token"),
        (3, b"AQ== 2", r"line 3: b'\\x01' is already in line 2"),
        (3, b"YWI= 2", r"tokenizer.model: a vocabulary needs all 256 bytes; 1 are missing: \[2\]"),
    ],
)
def test_damaged_files_are_refused_with_file_and_line(
    tmp_path: Path, line: int, content: bytes, message: str
) -> None:
    lines = lines_of_bytes()
    lines[line - 1] = content
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=message):
        Tokenizer.from_file(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.model: cannot read the vocabulary: No such file"):
        Tokenizer.from_file(tmp_path / "nowhere.model")
