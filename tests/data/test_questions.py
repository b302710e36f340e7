"""Questions are pure functions of their randomness, true, and never about what is held out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from camelid.core.errors import DataError
from camelid.core.messages import ImagePart, Part, TextPart, VideoPart
from camelid.data.augment import PICTURE_SIZE as SIZE
from camelid.data.example import Conversation, Document, Example
from camelid.data.loader import example_rng
from camelid.data.mixture import Mixture
from camelid.data.questions import cast as cast_module
from camelid.data.questions import clips as clips_module
from camelid.data.questions import held_out
from camelid.data.questions.cast import Cast
from camelid.data.questions.motion import ACTIONS, film
from camelid.data.questions.naming import Naming, NamingConfig
from camelid.data.questions.problem import Problem, blind_twins
from camelid.data.questions.scenes import NUMBERS, Scene, compose_scene, questions_about
from camelid.data.questions.shapes import COLOURS, SHAPES, jittered_colour
from camelid.data.questions.wording import GROUP_NAMES, LANGUAGES, NAME_QUESTIONS, with_article
from camelid.data.starter import LANGUAGES as PACK_LANGUAGES
from camelid.data.starter import Clip, Concept, Drawing, StarterPack
from camelid.data.starter_mixture import StarterWeights, starter_mixture


@pytest.fixture(scope="module")
def pack() -> StarterPack:
    return StarterPack.open()


@pytest.fixture(scope="module")
def mixture(pack: StarterPack) -> Mixture:
    return starter_mixture(pack)


@pytest.fixture(scope="module")
def cast(pack: StarterPack) -> Cast:
    return Cast(pack.drawings("train"))


def parts_of(example: Example | Problem) -> list[Part]:
    if isinstance(example, Document):
        return list(example.parts)
    return [part for message in example.messages for part in message.parts]


def fingerprint(example: Example) -> list[object]:
    """Everything in an example, pixels as bytes."""
    found: list[object] = [type(example)]
    for part in parts_of(example):
        if isinstance(part, TextPart):
            found.append(part.text)
        elif isinstance(part, ImagePart):
            assert isinstance(part.source, Image.Image)
            found.append(part.source.tobytes())
        else:
            assert isinstance(part.source, tuple)
            found += [(frame.image.tobytes(), frame.time_seconds) for frame in part.source]
    return found


def answers(example: Example) -> list[str]:
    assert isinstance(example, Conversation)
    return [message.text for message in example.messages if message.role == "assistant"]


def test_same_index_and_randomness_same_example(pack: StarterPack, mixture: Mixture) -> None:
    for source, twin in zip(mixture.sources, starter_mixture(pack).sources, strict=True):
        for index in (0, 5, 20_001):
            first = fingerprint(source.example(index, example_rng(3, index)))
            source.example(index + 1, example_rng(3, index + 1))
            assert first == fingerprint(source.example(index, example_rng(3, index))), source.name
            assert first == fingerprint(twin.example(index, example_rng(3, index))), source.name
            others = [fingerprint(source.example(index, example_rng(seed, index))) for seed in range(4, 12)]
            assert any(first != other for other in others), source.name


def test_conversations_have_a_form_that_teaches(mixture: Mixture) -> None:
    """Turns alternate, the picture is shown once, in the beginning, and answers are bare."""
    for source in mixture.sources:
        for index in range(60):
            example = source.example(index, example_rng(1, index))
            if isinstance(example, Document):
                assert any(isinstance(part, TextPart) and part.text.strip() for part in example.parts)
                continue
            roles = [message.role for message in example.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2)
            later = [part for message in example.messages[1:] for part in message.parts]
            assert all(isinstance(part, TextPart) for part in later)
            for answer in answers(example):
                assert answer and answer == answer.strip()
                assert source.name in ("prose", "glosses") or not answer.endswith(".")
            for part in parts_of(example):
                if isinstance(part, ImagePart):
                    assert part.source.mode == "RGB" and part.source.size in (
                        (SIZE, SIZE),
                        (2 * SIZE, 2 * SIZE),
                    )
                if isinstance(part, VideoPart):
                    times = [frame.time_seconds for frame in part.source]
                    assert 4 <= len(times) <= 6 and times == sorted(set(times))


def test_nothing_held_out_can_be_drawn(
    pack: StarterPack, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 examples: which pictures were opened, and which words were said."""
    opened: set[tuple[str, Concept, str]] = set()

    def note_drawing(drawing: Drawing) -> Image.Image:
        opened.add(("drawing", drawing.concept, drawing.style))
        return Image.new("RGBA", (SIZE, SIZE), "red")

    def note_clip(clip: Clip) -> tuple[Image.Image, ...]:
        opened.add(("clip", clip.concept, ""))
        return (Image.new("RGBA", (SIZE, SIZE), "red"),) * 8

    monkeypatch.setattr(cast_module, "_pixels", note_drawing)
    monkeypatch.setattr(clips_module, "_cut_out_frames", note_clip)
    drawn: Counter[str] = Counter()
    texts: list[str] = []
    for number in range(3000):
        rng = example_rng(0, number)
        source = mixture.choose(rng)
        example = source.example(drawn[source.name], rng)
        drawn[source.name] += 1
        texts += [part.text for part in parts_of(example) if isinstance(part, TextPart)]

    assert len(opened) > 1500
    for _, concept, style in opened:
        assert not concept.is_held_out and style != "twemoji"
    held_out_clips = {clip.concept for clip in (*pack.clips("held_out"), *pack.clips_held_out_concepts())}
    assert not held_out_clips & {concept for kind, concept, _ in opened if kind == "clip"}

    said = set(texts)
    names = {concept.name for concept in pack.concepts if concept.is_held_out}
    glosses = {entry.gloss for entry in pack.glosses("held_out")}
    assert len(names) > 50 and not said & (names - {"tear"}) and not said & glosses
    everything = "\n".join(texts)
    paragraphs = [p for chapter in pack.prose("held_out") for p in chapter.text.split("\n\n") if len(p) > 80]
    assert len(paragraphs) > 100
    assert not [paragraph for paragraph in paragraphs if paragraph[:80] in everything]


def test_the_shares_of_a_mixture_are_those_of_its_weights(pack: StarterPack, mixture: Mixture) -> None:
    assert mixture.shares["naming"] == pytest.approx(StarterWeights().naming)
    assert sum(StarterWeights().to_dict().values()) == pytest.approx(1.0)
    only = StarterWeights(**dict.fromkeys(StarterWeights().to_dict(), 0.0)).replace(prose=2.0)
    assert starter_mixture(pack, only).shares == {"prose": 1.0}


def test_every_drawing_comes_once_per_epoch(cast: Cast) -> None:
    naming = Naming(cast, config=NamingConfig(documents=0.0))
    seen: Counter[int] = Counter()
    spy = Cast.pair

    def note(self: Cast, number: int) -> tuple[Concept, Image.Image]:
        seen[number] += 1
        return spy(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cast, "pair", note)
        patch.setattr("camelid.data.questions.naming.augment_drawing", lambda drawing, *_: drawing)
        for index in range(cast.num_drawings):
            naming.example(index, example_rng(0, index))
    assert len(seen) == cast.num_drawings and set(seen.values()) == {1}


def test_names_in_every_language_are_the_packs(cast: Cast) -> None:
    naming = Naming(cast, config=NamingConfig(english=0.6, one_turn=0.7))
    language_of = {question: code for code, questions in NAME_QUESTIONS.items() for question in questions}
    by_names = {code: {concept.names[code] for concept in cast.concepts} for code in LANGUAGES}
    asked: Counter[str] = Counter()
    for index in range(600):
        example = naming.example(index, example_rng(2, index))
        if isinstance(example, Conversation):
            for question, answer in zip(example.messages[::2], example.messages[1::2], strict=True):
                language = language_of.get(question.text)
                named = re.fullmatch(r"(?:Name this|What is this(?: called)?) in (\w+)[.?]", question.text)
                if named:
                    language = next(code for code, name in LANGUAGES.items() if name == named[1])
                if language:
                    asked[language] += 1
                    assert answer.text in by_names[language]
    assert set(asked) == set(LANGUAGES) == set(PACK_LANGUAGES)
    assert 0.4 < asked["en"] / asked.total() < 0.7


def test_words_read_well() -> None:
    named = ("cat", "apple", "unicorn", "hourglass", "socks", "glass", "flag: Chad", "Earth")
    assert [with_article(name) for name in named] == [
        "a cat", "an apple", "a unicorn", "an hourglass", "socks", "a glass", "flag: Chad", "Earth",
    ]  # fmt: skip


def shapes_only(cast: Cast) -> Iterable[Scene]:
    scenes = (compose_scene(cast, example_rng(8, number)) for number in range(400))
    return [scene for scene in scenes if all(placed.colour for placed in scene.objects)]


def num_figures(picture: Image.Image) -> int:
    """Connected areas that differ from the background, which is the commonest colour."""
    pixels = np.asarray(picture).astype(int)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    left = set(map(tuple, np.argwhere(np.abs(pixels - colours[counts.argmax()]).max(axis=2) > 60)))
    count = 0
    while left:
        count += 1
        waiting = [left.pop()]
        while waiting:
            row, column = waiting.pop()
            near = {(row + y, column + x) for y in (-1, 0, 1) for x in (-1, 0, 1)} & left
            left -= near
            waiting += near
    return count


def test_scenes_show_as_many_figures_as_they_say(cast: Cast) -> None:
    scenes = shapes_only(cast)
    assert len(scenes) > 100
    for scene in scenes:
        assert num_figures(scene.picture) == len(scene.objects)
        boxes = [placed.box for placed in scene.objects]
        for number, (left, top, right, bottom) in enumerate(boxes):
            assert 0 <= left < right <= SIZE and 0 <= top < bottom <= SIZE
            assert all(right < o[0] or o[2] < left or bottom < o[1] or o[3] < top for o in boxes[:number])


def test_scenes_show_things_where_and_in_the_colours_they_say(cast: Cast) -> None:
    for scene in shapes_only(cast):
        pixels = np.asarray(scene.picture).astype(int)
        for placed in scene.objects:
            left, top, right, bottom = placed.box
            x, y = (left + right) / 2, (top + bottom) / 2
            assert (int(y // (SIZE / 3)), int(x // (SIZE / 3))) == (placed.row, placed.column)
            if placed.name not in ("ring", "heart"):
                distances = {
                    name: np.abs(pixels[round(y), round(x)] - value).max() for name, value in COLOURS.items()
                }
                assert min(distances, key=distances.__getitem__) == placed.colour


def truth(scene: Scene, question: str) -> set[str]:
    """All right answers by a second reading of the objects, from the words of the question."""
    objects = scene.objects
    words = question.rstrip("?.").split()
    if words[0] in ("How", "Count"):
        things = re.sub(r"^(How many|Count the)|(are there|do you see)$", "", question[:-1]).strip()
        if things == "objects":
            return {NUMBERS[len(objects) - 1]}
        colour = things.removesuffix(" shapes")
        if colour in COLOURS:
            return {NUMBERS[sum(placed.colour == colour for placed in objects) - 1]}
        (shape,) = (name for name in SHAPES if things in (name + "s", name + "es"))
        return {NUMBERS[sum(placed.name == shape for placed in objects) - 1]}
    about = question[:-1].split(" the ", 1)
    if "colour" in question:
        name = about[1].removesuffix(" have")
        return {str(placed.colour) for placed in objects if placed.name == name}
    if words[0] == "Where":
        return {placed.place for placed in objects if placed.name == about[1]}
    if re.match(r"What is (at|in) the (top|middle|bottom|centre)", question):
        return {placed.name for placed in objects if placed.place == about[1]}
    side, name = re.fullmatch(
        r"What is (to the left of|to the right of|above|below) the (.*)\?", question
    ).groups()
    (pivot,) = (placed for placed in objects if placed.name == name)
    sign = -1 if side in ("to the left of", "above") else 1
    if side.startswith("to"):
        return {placed.name for placed in objects if sign * (placed.column - pivot.column) > 0}
    return {placed.name for placed in objects if sign * (placed.row - pivot.row) > 0}


def test_every_answer_about_a_scene_is_the_only_right_one(cast: Cast) -> None:
    kinds: Counter[str] = Counter()
    for number in range(300):
        scene = compose_scene(cast, example_rng(9, number))
        for question in questions_about(scene, example_rng(9, number)):
            assert truth(scene, question.text) == {question.answer}, (question, scene.objects)
            assert question.choices is None or question.answer in question.choices
            kinds[question.kind] += 1
    assert set(kinds) == {"count", "colour", "where", "relation"} and min(kinds.values()) > 150


def test_shades_of_a_colour_stay_nearest_to_it() -> None:
    for name in COLOURS:
        for number in range(50):
            shade = np.array(jittered_colour(name, example_rng(1, number)))
            assert min(COLOURS, key=lambda other: np.abs(shade - COLOURS[other]).sum()) == name


def figure(image: Image.Image) -> np.ndarray:
    """Where a frame differs from its corner, which holds background; rows, then columns."""
    pixels = np.asarray(image).astype(int)
    return np.argwhere(np.abs(pixels - pixels[0, 0]).max(axis=2) > 40)


def test_generated_clips_do_what_they_say(cast: Cast) -> None:
    seen: Counter[str] = Counter()
    for number in range(300):
        clip = film(cast, example_rng(6, number))
        assert clip.sentence == f"the {clip.name} {ACTIONS[clip.action]}"
        figures = [figure(frame.image) for frame in clip.frames]
        sizes = [len(pixels) for pixels in figures]
        seen[clip.action] += 1
        if clip.action in ("appear", "disappear"):
            there = sizes if clip.action == "appear" else sizes[::-1]
            assert there[0] == 0 < there[-1] and sorted(there) == there
            continue
        if min(sizes) < 12:  # a figure almost as light as its background
            continue
        (y0, x0), (y1, x1) = figures[0].mean(axis=0), figures[-1].mean(axis=0)
        if clip.action == "grow":
            assert sizes[-1] > 2 * sizes[0]
        elif clip.action == "shrink":
            assert sizes[0] > 2 * sizes[-1]
        elif clip.action == "spin":
            assert abs(x1 - x0) < 16 and clip.frames[0].image.tobytes() != clip.frames[1].image.tobytes()
        else:
            step = {"right": (x1 - x0, y1 - y0), "left": (x0 - x1, y1 - y0), "down": (y1 - y0, x1 - x0)}
            along, across = step.get(clip.action, (y0 - y1, x1 - x0))
            assert along > 14 and abs(across) < 4
    assert set(seen) == set(ACTIONS) and min(seen.values()) > 15


def test_problems_are_fixed_and_held_out(pack: StarterPack) -> None:
    def asked(problems: list[Problem]) -> list[object]:
        return [[p.answer, p.choices, p.concept, *fingerprint(Conversation(p.messages))] for p in problems]

    makers = (
        partial(held_out.naming_held_out_style, pack, 20),
        partial(held_out.which_of_held_out_style, pack, 20),
        partial(held_out.category_held_out_concepts, pack, 20),
        partial(held_out.clip_naming, pack, 10),
        partial(held_out.motion_scenes, pack, 5),
        partial(held_out.scenes, pack, 9, "colour", is_style_held_out=True),
        partial(held_out.scenes, pack, 10, "count"),
        partial(held_out.scenes, pack, 9, "where"),
        partial(held_out.scenes, pack, 9, "relation"),
        partial(held_out.glosses_held_out, pack, 5),
    )
    for make in makers:
        problems = make()
        assert len(problems) == make.args[1]
        assert asked(problems) == asked(make())
        assert all(p.choices is None or p.answer in p.choices for p in problems)
    concepts = {concept.code_point: concept for concept in pack.concepts}
    for problem in held_out.naming_held_out_style(pack, 20):
        concept = concepts[problem.concept]
        assert problem.answer == concept.name and not concept.is_held_out
    for problem in held_out.category_held_out_concepts(pack, 20):
        concept = concepts[problem.concept]
        assert problem.answer == GROUP_NAMES[concept.group] and concept.is_held_out
    counts = Counter(problem.answer for problem in held_out.scenes(pack, 10, "count"))
    assert counts == dict.fromkeys(NUMBERS, 2)


def test_held_out_prose_is_whole(pack: StarterPack) -> None:
    windows = [
        "".join(part.text for part in parts_of(document)) for document in held_out.held_out_prose(pack)
    ]
    assert all(0 < len(window) <= 1600 for window in windows)
    whole = "".join(chapter.text for chapter in pack.prose("held_out"))
    assert "".join("".join(windows).split()) == "".join(whole.split())


def test_blind_twins_ask_the_same_about_another_picture(pack: StarterPack) -> None:
    problems = held_out.naming_held_out_style(pack, 12)
    pictures = {problem.messages[0].parts[0].source.tobytes(): problem.answer for problem in problems}
    twins = blind_twins(problems, seed=1)
    for problem, twin in zip(problems, twins, strict=True):
        shown = twin.messages[0].parts[0].source.tobytes()
        assert replace(twin, messages=()) == replace(problem, messages=())
        assert twin.messages[0].text == problem.messages[0].text
        assert pictures[shown] != problem.answer
    again = [twin.messages[0].parts[0].source.tobytes() for twin in blind_twins(problems, seed=1)]
    assert again == [twin.messages[0].parts[0].source.tobytes() for twin in twins]


def test_too_few_drawings_are_refused(pack: StarterPack) -> None:
    with pytest.raises(DataError, match="at least 8 concepts, got 1"):
        Cast(pack.drawings("train")[:1])
