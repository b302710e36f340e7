"""Asking a problem and keeping what was asked."""

from __future__ import annotations

import json
from pathlib import Path

from camelid.core import ImagePart, Message, VideoPart
from camelid.data.questions.problem import Problem
from camelid.eval import GalleryItem, ask
from camelid.testing import ScriptedGenerator


def test_a_picture_is_kept_with_question_answer_and_truth(picture_path: Path) -> None:
    problem = Problem((Message.of("user", ImagePart(picture_path), "What is this?"),), "face", "name it")
    item = ask(ScriptedGenerator([" Face. "]), problem)
    assert (item.kind, item.question, item.answer, item.truth) == (
        "name it",
        "What is this?",
        "Face.",
        "face",
    )
    assert item.is_right
    assert item.visuals[0].startswith(b"\x89PNG")
    assert [image.size for image in item.images()] == [(64, 64)]
    assert GalleryItem.from_dict(json.loads(json.dumps(item.to_dict()))) == item


def test_a_clip_is_kept_as_an_animation(clip_path: Path) -> None:
    problem = Problem((Message.of("user", VideoPart(clip_path), "What happens?"),), "it changes", "clip")
    item = ask(ScriptedGenerator(["nothing"]), problem)
    assert not item.is_right
    assert item.visuals[0][:4] == b"RIFF"
    red = [image.getpixel((32, 32)) for image in item.images()]
    assert len(red) == 3
    assert red[0] != red[2]
