"""Emoji as concepts: which code points are things of their own, and what twelve languages call them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from camelid.data.package_table import CLDR, CLDR_DERIVED, NOTO
from camelid.data.packages import Package, members
from camelid.data.splits import base_code_point

__all__ = ["CONCEPT_PACKAGES", "LANGUAGES", "NamedEmoji", "read_concepts"]

CONCEPT_PACKAGES = (NOTO, CLDR, CLDR_DERIVED)

# The languages of Llama 4, and CLDR's name for each.
LANGUAGES = {
    "ar": "ar", "en": "en", "fr": "fr", "de": "de", "hi": "hi", "id": "id",
    "it": "it", "pt": "pt", "es": "es", "tl": "fil", "th": "th", "vi": "vi",
}  # fmt: skip

# Letters and signs on a coloured square: text more than things.
SIGN_SUBGROUPS = {"alphanum", "currency", "gender", "keycap", "math", "other-symbol", "punctuation", "zodiac"}
# Copies of another concept but for a hand's angle, a shadow or a size; and arrows that carry an English word.
CLOCK_FACES = {f"{number:X}" for number in range(0x1F550, 0x1F568)}
MOON_PHASES = {f"{number:X}" for number in (*range(0x1F312, 0x1F315), *range(0x1F316, 0x1F319))}
WORDED_ARROWS = {f"{number:X}" for number in range(0x1F519, 0x1F51E)}
SMALL_SHAPES = {"25AA", "25AB", "25FB", "25FC", "25FD", "25FE", "1F538", "1F539", "1F53A", "1F53B"}
LOOKALIKES = CLOCK_FACES | MOON_PHASES | WORDED_ARROWS | SMALL_SHAPES

# Countries have 250 flags of a few stripes each; these are known best, and enough.
FLAGS = (
    "AR AT AU BD BE BR CA CH CL CN CO CU CZ DE DK DZ EG ES ET FI FR GB GH GR HU ID IE IL IN IQ IR IS IT JM JP KE "
    "KR LB LK MA MX MY NG NL NO NP NZ PE PH PK PL PT QA RO RU SA SE SG TH TR TZ UA US UY VE VN ZA"
)


@dataclass(frozen=True)
class NamedEmoji:
    """An emoji with its names by language. `code_point` has no variation marks, `file_stem` may have them."""

    code_point: str
    file_stem: str
    emoji: str
    group: str
    subgroup: str
    unicode_name: str
    names: Mapping[str, str] = field(compare=False)
    keywords: tuple[str, ...] = field(compare=False)

    @property
    def slug(self) -> str:
        """The English name as a file name."""
        return _slug(self.names["en"])

    @property
    def unicode_slug(self) -> str:
        """Unicode's name of its character as a file name, such as "automated-teller-machine" for an ATM sign."""
        return _slug(self.unicode_name)


def _slug(name: str) -> str:
    plain = name.lower().replace("’", "").replace("'", "").replace("ñ", "n").replace("é", "e")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def read_concepts(paths: Mapping[Package, Path], *, is_everything: bool = False) -> list[NamedEmoji]:
    """The concepts in CLDR's order, without skin tones, genders, signs and lookalikes; English names are unique.

    With `is_everything`, all named emoji that are no skin tone or gender variant of another. An emoji that
    some language has no name for is left out.
    """
    ((_, data),) = members(paths[NOTO], r"package/emoji\.json")
    annotations = {language: _annotations(paths, locale) for language, locale in LANGUAGES.items()}
    concepts: dict[str, NamedEmoji] = {}
    for entry in sorted(json.loads(data), key=_order):
        if base_code_point(entry["unified"]) != entry["unified"].replace("-FE0F", ""):
            continue
        if not is_everything and _is_dropped(entry):
            continue
        emoji = _named(entry, annotations)
        if emoji is not None:
            concepts.setdefault(emoji.names["en"], emoji)
    return list(concepts.values())


def _order(entry: Mapping[str, Any]) -> tuple[str, int]:
    return entry["category"], entry["sort_order"]


def _is_dropped(entry: Mapping[str, Any]) -> bool:
    code_point = entry["unified"].replace("-FE0F", "")
    if entry["category"] == "Flags" and entry["subcategory"] == "country-flag":
        return code_point not in {_flag_code_point(country) for country in FLAGS.split()}
    return entry["subcategory"] in SIGN_SUBGROUPS or code_point in LOOKALIKES


def _flag_code_point(country: str) -> str:
    return "-".join(f"{0x1F1E6 + ord(letter) - ord('A'):X}" for letter in country)


def _named(entry: Mapping[str, Any], annotations: Mapping[str, Mapping[str, Any]]) -> NamedEmoji | None:
    emoji = "".join(chr(int(part, 16)) for part in entry["unified"].split("-"))
    plain = emoji.replace("\ufe0f", "")
    found = {language: table.get(plain) or table.get(emoji) for language, table in annotations.items()}
    names = {language: row["tts"][0].strip() for language, row in found.items() if row and row.get("tts")}
    if len(names) < len(LANGUAGES):
        return None
    english = found["en"]
    assert english is not None
    return NamedEmoji(
        code_point=entry["unified"].replace("-FE0F", ""),
        file_stem=entry["unified"],
        emoji=emoji,
        group=entry["category"],
        subgroup=entry["subcategory"],
        unicode_name=entry["name"] or "",
        names=names,
        keywords=tuple(word for word in english.get("default", ()) if word != names["en"]),
    )


def _annotations(paths: Mapping[Package, Path], locale: str) -> dict[str, Any]:
    """Emoji to its `tts` name and `default` keywords; derived ones are those of flags and sequences."""
    merged: dict[str, Any] = {}
    for package, kind in ((CLDR_DERIVED, "annotationsDerived"), (CLDR, "annotations")):
        ((_, data),) = members(paths[package], rf"package/{kind}/{locale}/annotations\.json")
        merged.update(json.loads(data)[kind]["annotations"])
    return merged
