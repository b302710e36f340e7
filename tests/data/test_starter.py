"""The starter pack is whole, small, and keeps what is held out apart from what is trained on."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from camelid.core.digest import sha256_of_file
from camelid.core.errors import DataError
from camelid.data.augment import PICTURE_SIZE, on_white
from camelid.data.splits import base_code_point, is_held_out_concept
from camelid.data.starter import HELD_OUT_STYLE, LANGUAGES, Drawing, StarterPack

MAX_PACK_BYTES = 12 * 10**6
WINDOW_CHARS = 200


@pytest.fixture(scope="module")
def pack() -> StarterPack:
    return StarterPack.open()


def test_parts_are_what_the_manifest_says_and_fit_the_budget(pack: StarterPack) -> None:
    for part in pack.manifest.parts:
        path = pack.folder / part.file
        assert (sha256_of_file(path), path.stat().st_size) == (part.sha256, part.bytes), part.file
        assert part.licence and part.attribution and part.packages
    assert sum(path.stat().st_size for path in pack.folder.iterdir()) <= MAX_PACK_BYTES


def test_every_part_has_its_licence_written_out(pack: StarterPack) -> None:
    text = (pack.folder / "LICENCES.md").read_text(encoding="utf-8")
    for part in pack.manifest.parts:
        assert part.file in text
        for origin in part.packages:
            assert origin.name in text and origin.version in text


def test_concepts_are_named_in_all_languages_and_apart(pack: StarterPack) -> None:
    assert len(pack.concepts) > 900
    for language in LANGUAGES:
        names = [concept.names[language] for concept in pack.concepts]
        assert all(name.strip() for name in names)
        assert len(set(names)) == len(names), language
    assert len({concept.code_point for concept in pack.concepts}) == len(pack.concepts)


def test_the_held_out_style_is_in_no_training_drawing(pack: StarterPack) -> None:
    assert len(pack.styles) == 10
    assert {drawing.style for drawing in pack.drawings("train")} == set(pack.styles) - {HELD_OUT_STYLE}
    assert {drawing.style for drawing in pack.drawings_held_out_style()} == {HELD_OUT_STYLE}


def test_every_style_draws_a_good_part_of_the_concepts(pack: StarterPack) -> None:
    shown = Counter(drawing.style for drawing in pack._drawings)
    assert {style: number for style, number in shown.items() if number < 1200} == {
        "emojione": 1006, "emojione-v1": 847, "noto-v1": 963, "fxemoji": 749, "streamline": 472
    }  # fmt: skip
    assert len({(drawing.style, drawing.concept) for drawing in pack._drawings}) == len(pack._drawings)


def test_no_training_drawing_is_almost_the_one_of_the_held_out_style(pack: StarterPack) -> None:
    unseen = {drawing.concept: _pixels(drawing) for drawing in pack.drawings_held_out_style()}
    distances = {
        (drawing.style, drawing.concept.name): np.abs(_pixels(drawing) - unseen[drawing.concept]).mean()
        for drawing in pack.drawings("train")
    }
    # Two teeth are as alike as two teeth. Nothing else comes nearer than 4 of 255.
    assert min(distances.values()) > 3
    assert {which for which, distance in distances.items() if distance < 4} <= {("noto", "tooth")}


def test_held_out_concepts_are_in_nothing_for_training(pack: StarterPack) -> None:
    held_out = {concept.code_point for concept in pack.concepts if concept.is_held_out}
    shown = {drawing.concept.code_point for drawing in pack.drawings("train")}
    moving = {clip.concept.code_point for clip in pack.clips("train")}
    assert 0.04 < len(held_out) / len(pack.concepts) < 0.09
    assert not held_out & (shown | moving)
    assert {drawing.concept.code_point for drawing in pack.drawings_held_out_concepts()} == held_out
    assert {concept.group for concept in pack.concepts if concept.is_held_out} == {
        c.group for c in pack.concepts
    }


def test_no_picture_is_on_both_sides(pack: StarterPack) -> None:
    train, held_out = pack.drawings("train"), pack.drawings("held_out")
    assert not {drawing.webp for drawing in train} & {drawing.webp for drawing in held_out}
    assert {*pack.drawings_held_out_style(), *pack.drawings_held_out_concepts()} == set(held_out)


def test_held_out_clips_are_in_no_training_clip(pack: StarterPack) -> None:
    train, held_out, unseen = pack.clips("train"), pack.clips("held_out"), pack.clips_held_out_concepts()
    sides = [{clip.concept.code_point for clip in clips} for clips in (train, held_out, unseen)]
    assert sum(map(len, sides)) == len(set.union(*sides)) >= 250
    assert all(sides) and 0.06 < len(held_out) / (len(train) + len(held_out)) < 0.2
    assert not {clip.webp for clip in train} & {clip.webp for clip in (*held_out, *unseen)}


def test_variants_of_an_emoji_fall_on_one_side() -> None:
    assert (
        base_code_point("1F469-1F3FD-200D-1F33E") == base_code_point("1F9D1-200D-1F33E") == "1F9D1-200D-1F33E"
    )
    assert base_code_point("1f6b4-1f3fb-200d-2640-fe0f") == "1F6B4"
    assert base_code_point("2764-FE0F") == "2764"
    assert is_held_out_concept("1F44B") == is_held_out_concept("1F44B-1F3FF")


def test_no_held_out_paragraph_begins_in_training_prose(pack: StarterPack) -> None:
    train, held_out = pack.prose("train"), pack.prose("held_out")
    assert held_out and 0.02 < sum(len(p.text) for p in held_out) / sum(len(p.text) for p in train) < 0.1
    text = _squeezed("\n".join(prose.text for prose in train))
    paragraphs = [_squeezed(paragraph) for prose in held_out for paragraph in prose.text.split("\n\n")]
    windows = [paragraph[:WINDOW_CHARS] for paragraph in paragraphs if len(paragraph) >= WINDOW_CHARS]
    assert len(windows) > 50
    assert not [window for window in windows if window in text]


def test_no_gloss_is_on_both_sides(pack: StarterPack) -> None:
    train, held_out = pack.glosses("train"), pack.glosses("held_out")
    assert len(train) + len(held_out) >= 10_000 and len(held_out) > 200
    assert not {entry.word for entry in train} & {entry.word for entry in held_out}
    first_clauses = [{entry.gloss.split(";")[0] for entry in entries} for entries in (train, held_out)]
    assert not first_clauses[0] & first_clauses[1]


def test_pictures_and_clips_can_be_seen(pack: StarterPack) -> None:
    for drawing in pack.drawings("train")[::400]:
        picture = drawing.image()
        assert (picture.size, picture.mode) == ((PICTURE_SIZE, PICTURE_SIZE), "RGBA")
        left, top, right, bottom = picture.getchannel("A").point([0] * 64 + [255] * 192).getbbox() or (0,) * 4
        assert max(right - left, bottom - top) >= 39, drawing
    for clip in pack.clips("train")[::40]:
        frames = clip.frames()
        assert len(frames) == clip.num_frames == 8 and clip.duration_ms > 0
        assert len({frame.tobytes() for frame in frames}) > 1, clip


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: data[:99] + b"?" + data[100:]])
def test_a_damaged_part_is_refused_with_both_digests(pack: StarterPack, tmp_path: Path, damage) -> None:
    shutil.copytree(pack.folder, tmp_path / "pack")
    path = tmp_path / "pack" / "glosses.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=sha256_of_file(path)) as refusal:
        StarterPack.open(tmp_path / "pack").glosses("train")
    assert pack.manifest.part("glosses.parquet").sha256 in str(refusal.value)


def test_a_missing_part_manifest_or_split_is_refused(pack: StarterPack, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json"):
        StarterPack.open(tmp_path)
    shutil.copy(pack.folder / "manifest.json", tmp_path)
    with pytest.raises(DataError, match=r"glosses\.parquet"):
        StarterPack.open(tmp_path).glosses("train")
    # The shape checks of `make test` notice before the pack itself does.
    with pytest.raises((DataError, TypeError), match="test"):
        pack.glosses("test")  # type: ignore[arg-type]


def _pixels(drawing: Drawing) -> np.ndarray:
    return np.asarray(on_white(drawing.image())).astype(float)


def _squeezed(text: str) -> str:
    return re.sub(r"\W+", " ", text).lower()


def test_a_share_of_the_concepts_is_a_smaller_pack_with_the_same_splits(pack: StarterPack) -> None:
    part = StarterPack.open(concept_share=0.125)
    known = set(pack.concepts)
    assert 0.08 * len(known) < len(part.concepts) < 0.17 * len(known)
    assert set(part.concepts) < known
    assert {drawing.concept for drawing in part.drawings("train")} <= set(part.concepts)
    assert set(part.drawings("train")) < set(pack.drawings("train"))
    assert set(part.clips("held_out")) <= set(pack.clips("held_out"))
    smaller = StarterPack.open(concept_share=0.05)
    assert set(smaller.concepts) < set(part.concepts)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_senseless_share_is_refused(share: float) -> None:
    with pytest.raises(DataError, match=str(share)):
        StarterPack.open(concept_share=share)
