"""Icon sets are read with their aliases, and an emoji is only called what its picture shows."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from camelid.core.errors import DataError
from camelid.data.icon_sets import (
    FXEMOJI_NAMES,
    names_in_fxemoji,
    names_in_iconify,
    names_in_streamline,
    read_icons,
)
from camelid.data.package_concepts import NamedEmoji
from camelid.data.package_drawings import STYLES, fit, render_svg
from camelid.data.starter import HELD_OUT_STYLE

SQUARE = '<path fill="red" d="M0 0h{side}v{side}H0z"/>'


def archive(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "set.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


def emoji(name: str, unicode_name: str = "", group: str = "Objects", subgroup: str = "x") -> NamedEmoji:
    return NamedEmoji("1F600", "1F600", "?", group, subgroup, unicode_name, {"en": name}, ())


def test_icons_come_with_their_own_size_and_their_aliases(tmp_path: Path) -> None:
    icons = {
        "width": 8, "height": 8,
        "icons": {"small": {"body": SQUARE.format(side=4)}, "wide": {"body": SQUARE.format(side=4), "width": 16}},
        "aliases": {"little": {"parent": "small"}, "turned": {"parent": "small", "rotate": 1}},
    }  # fmt: skip
    pictures = read_icons(archive(tmp_path, {"icons.json": json.dumps(icons)}))
    assert set(pictures) == {"small", "wide", "little"}
    assert pictures["little"] == pictures["small"]
    assert render_svg(pictures["small"], 32).getchannel("A").getbbox() == (0, 0, 16, 16)
    assert render_svg(pictures["wide"], 32).size == (32, 16)
    assert fit(render_svg(pictures["small"])).size == (48, 48)


def test_a_package_without_icons_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"icons\.json"):
        read_icons(archive(tmp_path, {"info.json": "{}"}))


def test_names_are_tried_from_todays_to_unicodes() -> None:
    assert names_in_iconify(emoji("ATM sign", "AUTOMATED TELLER MACHINE"))[1:] == (
        "atm-sign",
        "automated-teller-machine",
    )
    assert "flag-for-peru" in names_in_iconify(emoji("flag: Peru", "Peru Flag", "Flags", "country-flag"))
    assert "man-pilot" in names_in_iconify(emoji("pilot", subgroup="person-role"))
    assert names_in_fxemoji(emoji("love letter", "LOVE LETTER"))[0] == "loveletter"
    assert names_in_streamline(emoji("strawberry"))[:2] == ("strawberry", "strawberry-1")
    assert names_in_streamline(emoji("flag: Peru", "", "Flags", "country-flag"))[0] == "peru"


def test_a_name_that_means_something_else_is_not_taken() -> None:
    for names in (names_in_iconify, names_in_fxemoji, names_in_streamline):
        assert not names(emoji("cricket", "CRICKET")) and not names(emoji("water pistol", "PISTOL"))
    assert not names_in_streamline(emoji("turkey", "TURKEY")) and names_in_iconify(emoji("turkey"))
    # Mozilla's `cat` is the face and `catside` the whole animal.
    assert names_in_fxemoji(emoji("cat", "CAT")) == ("catside",)
    assert names_in_fxemoji(emoji("cat face", "CAT FACE")) == ("cat",)
    assert names_in_fxemoji(emoji("something new", "CATSIDE")) == ("somethingnew",)
    assert len(set(FXEMOJI_NAMES.values())) == len(FXEMOJI_NAMES)


def test_the_held_out_style_is_a_whole_one() -> None:
    assert len({style.name for style in STYLES}) == len(STYLES) == 10
    assert next(style for style in STYLES if style.name == HELD_OUT_STYLE).is_whole
