"""Users' own files become the examples that they hold, and bad files are refused by name."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from camelid.core.errors import ConfigError, DataError, InputError
from camelid.core.messages import ImagePart, Message, TextPart
from camelid.data.epochs import epoch_order
from camelid.data.example import Conversation, Document
from camelid.data.hub import HubSource
from camelid.data.sources import JsonlSource, ParquetSource, TextFolderSource, cut_at_paragraphs

RNG = np.random.default_rng(0)


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def write_parquet(path: Path, row_group_size: int = 3, **columns: list[object]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=row_group_size)
    return path


def test_epochs_are_different_permutations() -> None:
    epochs = [[epoch_order(50, 50 * epoch + place, seed=3) for place in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [epoch_order(50, place, seed=4) for place in range(50)]


def test_jsonl_rows_of_every_form(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png())
    shown = [{"type": "image", "path": "pictures/a.png"}, {"type": "text", "text": "What is this?"}]
    path = write_jsonl(
        tmp_path / "mine.jsonl",
        {"messages": [{"role": "user", "content": shown}, {"role": "assistant", "content": "rot: röd"}]},
        {"text": "plain text"},
        {"parts": shown},
    )
    source = JsonlSource(path)
    assert (source.name, len(source)) == ("mine", 3)
    examples = [source.example(index, RNG) for index in range(3)]
    picture = ImagePart(tmp_path / "pictures" / "a.png")
    question = Message.of("user", picture, "What is this?")
    assert Conversation((question, Message.of("assistant", "rot: röd"))) in examples
    assert Document((TextPart("plain text"),)) in examples
    assert Document((picture, TextPart("What is this?"))) in examples


def test_bad_jsonl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        JsonlSource(tmp_path / "missing.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n")
    with pytest.raises(DataError, match="no lines"):
        JsonlSource(empty)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": ')
    with pytest.raises(DataError, match=r"broken.jsonl, example 0: not JSON"):
        JsonlSource(broken).example(0, RNG)
    for row, words in (
        ([1], "expected an object"),
        ({"txt": "a"}, r"has \['txt'\]"),
        ({"text": ""}, "'text'"),
    ):
        with pytest.raises(DataError, match=words):
            JsonlSource(write_jsonl(tmp_path / "x.jsonl", row)).example(0, RNG)
    with pytest.raises(InputError, match="role"):
        JsonlSource(write_jsonl(tmp_path / "y.jsonl", {"messages": [{"content": "a"}]})).example(0, RNG)


def test_parquet_walks_every_row_once_per_epoch(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", text=[f"row {number}" for number in range(11)])
    source = ParquetSource(path)
    drawn = [source.example(index, RNG).parts[0].text for index in range(22)]
    assert Counter(drawn[:11]) == Counter(drawn[11:]) == Counter(f"row {number}" for number in range(11))
    assert drawn[:11] != drawn[11:]
    again = ParquetSource(path)
    assert [again.example(index, RNG).parts[0].text for index in reversed(range(22))] == drawn[::-1]


def test_parquet_pictures_questions_and_messages(tmp_path: Path) -> None:
    image = {"bytes": png(), "path": None}
    captions = ParquetSource(write_parquet(tmp_path / "c.parquet", image=[image], caption=["red"]))
    assert captions.example(0, RNG) == Document((ImagePart(png()), TextPart("red")))
    by_path = ParquetSource(write_parquet(tmp_path / "p.parquet", image=["a.png"], caption=["red"]))
    assert by_path.example(0, RNG) == Document((ImagePart(tmp_path / "a.png"), TextPart("red")))
    columns = {"image": [png()], "question": ["Which colour?"], "answer": ["red"]}
    asked = ParquetSource(write_parquet(tmp_path / "q.parquet", **columns)).example(0, RNG)
    question = Message.of("user", ImagePart(png()), "Which colour?")
    assert asked == Conversation((question, Message.of("assistant", "red")))
    chat = json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}])
    told = ParquetSource(write_parquet(tmp_path / "m.parquet", messages=[chat])).example(0, RNG)
    assert told == Conversation((Message.of("user", "hi"), Message.of("assistant", "hello")))


def test_bad_parquet_is_refused_with_its_path_and_the_reason(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", text=["a" * 50] * 100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"t\.parquet: not a readable parquet file: .*footer"):
        ParquetSource(path)
    with pytest.raises(DataError, match="missing"):
        ParquetSource(tmp_path / "missing.parquet")
    with pytest.raises(DataError, match=r"the columns are \['txt'\]"):
        ParquetSource(write_parquet(tmp_path / "c.parquet", txt=["a"]))
    with pytest.raises(DataError, match="no rows"):
        ParquetSource(write_parquet(tmp_path / "e.parquet", text=pyarrow.array([], pyarrow.string())))


def test_parquet_with_a_damaged_page_names_the_row_group(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pyarrow.table({"text": [f"{number:09d}" for number in range(1000)]})
    pyarrow.parquet.write_table(table, path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[40:80] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"t\.parquet, row group 0"):
        ParquetSource(path).example(0, RNG)


def test_text_folder_cuts_between_paragraphs_and_loses_nothing(tmp_path: Path) -> None:
    paragraphs = [f"Åsa {number}" + " word" * 20 for number in range(30)]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.md").write_text("\n\n".join(paragraphs), encoding="utf-8")
    (tmp_path / "b.txt").write_text("short", encoding="utf-8")
    (tmp_path / "c.csv").write_text("not, read", encoding="utf-8")
    source = TextFolderSource(tmp_path, max_chars=400)
    texts = [source.example(index, RNG).parts[0].text for index in range(len(source))]
    assert all(len(text) <= 400 for text in texts)
    assert "short" in texts
    found = [paragraph for text in texts if text != "short" for paragraph in text.split("\n\n")]
    assert Counter(found) == Counter(paragraphs)


@pytest.mark.parametrize("text", ["", "a" * 25, "one two three four", "x\ny\n\nz " * 9, "é\n\n" * 20])
def test_cut_pieces_join_to_the_text(text: str) -> None:
    pieces = list(cut_at_paragraphs(text, 10))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 10 for piece in pieces)


def test_bad_text_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text in 0"):
        TextFolderSource(tmp_path)
    with pytest.raises(ConfigError, match="got 0"):
        TextFolderSource(tmp_path, max_chars=0)
    (tmp_path / "a.txt").write_bytes(b"abc\xff")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8 at byte 3"):
        TextFolderSource(tmp_path)


class FakeDatasets:
    """What of the package `datasets` is used."""

    @staticmethod
    def load_dataset(path: str, name: str | None, split: str, streaming: bool) -> list[dict[str, object]]:
        assert streaming
        return [{"content": f"{split} {number}", "id": number} for number in range(3)]


def test_hub_rows_stream_in_order_and_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", FakeDatasets)
    source = HubSource("some/data", columns={"content": "text"})
    drawn = [source.example(index, RNG).parts[0].text for index in range(7)]
    assert drawn == [f"train {number % 3}" for number in range(7)]
    resumed = HubSource("some/data", columns={"content": "text"})
    assert [resumed.example(index, RNG).parts[0].text for index in (5, 6, 7)] == [
        "train 2",
        "train 0",
        "train 1",
    ]
    with pytest.raises(DataError, match=r"the columns are \['content', 'id'\]"):
        HubSource("some/data").example(0, RNG)


def test_hub_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'camelid\[hub\]'"):
        HubSource("some/data")
