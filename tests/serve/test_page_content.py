"""What is shown on the page: pictures and clips, hostile text, and the look inside."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import av
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator

from browsing import Visit, running_browser, visiting
from camelid.serve import Limits, ServedModel
from camelid.testing.scripted_engine import ScriptedEngine
from camelid.testing.tiny import tiny_config
from served import chat_format, scripted, serving

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload=window.hacked=1>",
    "[a](javascript:window.hacked=1)",
    "[a](JaVaScRiPt:window.hacked=1)",
    "[a](data:text/html,<script>window.hacked=1</script>)",
    "[a](  javascript:window.hacked=1)",
    "![a](https://example.org/x.png)",
    '[a](https://example.org/"onmouseover="window.hacked=1)',
    "<https://example.org/<script>>",
    "`<script>window.hacked = 1</script>`",
    "```html\n</code></pre><script>window.hacked = 1</script>\n```",
    '```"><script>window.hacked = 1</script>\nx\n```',
    "| <img src=x onerror=window.hacked=1> | b |\n|--|--|\n| <script>window.hacked=1</script> | c |",
    "**<b onclick=window.hacked=1>**",
    "&lt;script&gt;window.hacked = 1&lt;/script&gt;",
    "# <iframe src=javascript:window.hacked=1>",
    "> - <object data=x>\n>   <style>body { display: none }</style>",
)
ALLOWED = {
    "A", "BLOCKQUOTE", "BR", "BUTTON", "CODE", "DEL", "DIV", "EM", "FIGCAPTION", "FIGURE", "H2", "H3", "H4", "H5",
    "H6", "HR", "LI", "OL", "P", "PRE", "SPAN", "STRONG", "TABLE", "TBODY", "TD", "TH", "THEAD", "TR", "UL", "svg",
    "use",
}  # fmt: skip
DRAW = """async ([source, ends]) => {
    const { drawMarkdown } = await import("/page/markdown.js");
    const { tokenLeaf } = await import("/page/tokens.js");
    const element = document.createElement("div");
    document.getElementById("transcript").append(element);
    const began = performance.now();
    drawMarkdown(element, source, ends ? tokenLeaf(ends.map((end) => ({ end }))) : undefined);
    const all = [...element.querySelectorAll("*")];
    return {
        seconds: (performance.now() - began) / 1000,
        text: element.textContent,
        tags: all.map((one) => one.tagName),
        links: all.filter((one) => one.tagName === "A").map((one) => one.href),
        handlers: all.flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith("on")),
        tokens: [...element.querySelectorAll(".token")].map((one) => [Number(one.dataset.token), one.textContent]),
    };
}"""


SIDE = 16  # pixels: one tile of the tiny model


def seeing(engine: ScriptedEngine) -> ServedModel:
    vision = tiny_config(vision=True).vision
    return replace(scripted(engine), chat_format=chat_format(vision), sees=True)


def picture(kind: str = "png", frames: int = 1) -> bytes:
    file = io.BytesIO()
    stills = [Image.new("RGB", (SIDE, SIDE), (250, 40 * number, 90)) for number in range(frames)]
    more: dict[str, Any] = {"save_all": True, "append_images": stills[1:], "loop": 0} if frames > 1 else {}
    stills[0].save(file, kind, **more)
    return file.getvalue()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as one:
        yield one


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine("camelids", max_context=100_000)


@pytest.fixture(scope="module")
def address(engine: ScriptedEngine) -> Iterator[str]:
    with serving(seeing(engine)) as one:
        yield one


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    with visiting(browser, address) as one:
        yield one


GIVE = """([kind, name, type, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    const field = document.getElementById("message");
    const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
    (kind === "drop" ? document.body : field).dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["chooser", "drop", "paste"])
def test_a_picture_reaches_the_model_and_is_shown(visit: Visit, engine: ScriptedEngine, way: str) -> None:
    page, data = visit.page, picture()
    if way == "chooser":
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Attach pictures or clips").click()
        chooser.value.set_files({"name": "pink.png", "mimeType": "image/png", "buffer": data})
    else:
        page.evaluate(GIVE, [way, "pink.png", "image/png", base64.b64encode(data).decode()])
    page.locator(".previews img").wait_for()
    visit.ask("What colour?")
    prompt = engine.requests[-1].prompt
    assert len(prompt.tiles) == 1 and prompt.tiles[0, :, 0, 0].tolist() == [250, 0, 90]
    for _ in range(2):
        shown = page.locator(".question").get_by_role("img", name="pink.png")
        shown.wait_for()
        assert (
            shown.evaluate("(one) => one.naturalWidth") == SIDE and page.locator(".previews li").count() == 0
        )
        visit.reload()  # and it is still there

    visit.ask("And now?")
    assert len(engine.requests[-1].prompt.tiles) == 1, "it is part of the conversation"


def test_an_animated_picture_is_a_clip(visit: Visit, engine: ScriptedEngine) -> None:
    frames = []
    for kind in ("gif", "webp", "png"):
        visit.page.get_by_role("button", name="New conversation").click()
        for count in (1, 3):
            file: Any = {"name": f"a.{kind}", "mimeType": f"image/{kind}", "buffer": picture(kind, count)}
            visit.page.locator("input[type=file]").first.set_input_files(file)
            visit.page.locator(".previews img").wait_for()
            visit.ask("What moves?")
            frames.append(len(engine.requests[-1].prompt.tiles))
    assert frames == [1, 4] * 3, "a still, and then a clip of three frames after it"


def test_a_film_is_a_clip_and_plays(visit: Visit, engine: ScriptedEngine) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as film:
        stream = film.add_stream("libvpx-vp9", rate=2)
        stream.width = stream.height = 64
        for level in (10, 90, 170, 250):
            film.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64), (level, 0, 0)))))
        film.mux(stream.encode())
    clip: Any = {"name": "red.webm", "mimeType": "video/webm", "buffer": file.getvalue()}
    visit.page.locator("input[type=file]").set_input_files(clip)
    visit.page.locator(".previews video").wait_for()
    visit.ask("What happens?")
    assert engine.requests[-1].prompt.modality == "video"
    shown = visit.page.locator(".question video")
    shown.evaluate("(one) => one.play()")
    assert shown.evaluate("(one) => [one.videoWidth, one.paused]") == [64, False]


def test_what_is_too_large_or_no_picture_is_refused_in_words(browser: Browser) -> None:
    engine = ScriptedEngine("x")
    with (
        serving(seeing(engine), Limits(max_body_bytes=20_000)) as address,
        visiting(browser, address) as visit,
    ):
        chooser, notice = visit.page.locator("input[type=file]"), visit.page.locator("#notice")
        chooser.set_input_files({"name": "big.png", "mimeType": "image/png", "buffer": b"x" * 18_000})
        notice.get_by_text("big.png has 0.02 MB on the wire, and the server takes 0.02 MB.").wait_for()
        chooser.set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"x"})
        notice.get_by_text("a.txt is neither a picture nor a clip.").wait_for()
        for name in ("one.png", "two.png"):
            chooser.set_input_files({"name": name, "mimeType": "image/png", "buffer": b"x" * 9_000})
            visit.page.get_by_role("img", name=name).wait_for()
        visit.message.press("Enter")
        notice.get_by_text("this conversation has 0.02 MB, and the server takes 0.02 MB").wait_for()
        assert visit.page.locator(".turn").count() == 0 and visit.page.locator(".previews li").count() == 2
    with serving(scripted(engine)) as address, visiting(browser, address) as visit:
        assert visit.page.get_by_role("button", name="Attach pictures or clips").is_hidden()
        visit.page.evaluate(GIVE, ["paste", "pink.png", "image/png", base64.b64encode(picture()).decode()])
        visit.page.get_by_text("This model reads text only.").wait_for()


def test_hostile_markdown_is_inert(visit: Visit) -> None:
    for source in HOSTILE:
        for ends in (None, list(range(1, len(source) + 1))):
            drawn = visit.page.evaluate(DRAW, [source, ends])
            assert set(drawn["tags"]) <= ALLOWED and drawn["handlers"] == [], source
            assert all(link.startswith(("https://", "http://", "mailto:")) for link in drawn["links"]), source
    assert "<script>window.hacked = 1</script>" in visit.page.locator("#transcript").text_content()
    assert visit.page.evaluate("window.hacked") is None
    refused = visit.page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (error) { return error.name; } }"
    )
    assert refused == "TypeError", "the browser itself takes no HTML from this page's code"
    assert any("TrustedHTML" in problem for problem in visit.problems)
    visit.problems.clear()


def test_hostile_words_of_people_and_models_are_inert(browser: Browser) -> None:
    said = "\n\n".join(HOSTILE)
    with (
        serving(scripted(ScriptedEngine(said, max_context=20_000))) as address,
        visiting(browser, address) as visit,
    ):
        visit.look_inside()
        visit.ask(said)
        visit.reload()
        assert visit.page.locator(".question .said").text_content() == said
        tags = visit.page.evaluate("[...document.querySelectorAll('.said *')].map((one) => one.tagName)")
        assert set(tags) <= ALLOWED and visit.page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    ("source", "tags", "text"),
    [
        ("# A\n\nb *c* __d__ ~~e~~", ["H2", "P", "EM", "STRONG", "DEL"], "Ab c d e"),
        ("snake_case 2 * 3 * 4 \\*a\\*", ["P"], "snake_case 2 * 3 * 4 *a*"),
        ("***a***", ["P", "STRONG", "EM"], "a"),
        ("- a\n  - b\n- c", ["UL", "LI", "UL", "LI", "LI"], "abc"),
        ("3. a\n4. b", ["OL", "LI", "LI"], "ab"),
        ("> a\n> b\n\nc", ["BLOCKQUOTE", "P", "BR", "P"], "abc"),
        ("|a|b|\n|-|-|\n|`x|y`|", ["DIV", "TABLE", "THEAD", "TR", "TH", "TH", "TBODY", "TR", "TD", "TD"], "ab`xy`"),
        ("see https://a.org/b_c_d, and [this](https://c.org)", ["P", "A", "A"], "see https://a.org/b_c_d, and this"),
        ("`` a`b ``", ["P", "CODE"], " a`b "),
        ("a\n---\nb", ["P", "HR", "P"], "ab"),
    ],
)  # fmt: skip
def test_markdown(visit: Visit, source: str, tags: list[str], text: str) -> None:
    drawn = visit.page.evaluate(DRAW, [source, None])
    assert drawn["tags"] == tags and drawn["text"] == text


def test_markdown_loses_no_token_and_no_time(visit: Visit) -> None:
    """Every token that is drawn stands with its own text, in order; and no answer is slow to draw."""
    source = "# One\n\n1. *two* `three`\n   - fo**ur**\n\n> five\n\n```py\nsix\n  seven\n```\n\n|a|b|\n|-|-|"
    source += "\n|c|d|\nend"
    for step in (1, 2, 3, 7):
        ends = [*range(step, len(source), step), len(source)]
        tokens = visit.page.evaluate(DRAW, [source, ends])["tokens"]
        assert [index for index, _ in tokens] == sorted(index for index, _ in tokens)
        assert all(text in source[index * step : ends[index]] for index, text in tokens)
        letters = "".join(text for _, text in tokens)
        assert [
            word
            for word in ("One", "two", "three", "four", "five", "six", "seven", "end")
            if word not in letters
        ] == []
    for unit in (
        "*a ",
        "**a",
        "`",
        "[",
        "[a](",
        "_a_b",
        "> ",
        "- ",
        "|",
        "#",
        "~~a",
        "\\",
        "h",
        "https://",
        "  \n- a",
    ):
        assert visit.page.evaluate(DRAW, [unit * (20_000 // len(unit)), None])["seconds"] < 3, unit


def cells_of(canvas: Locator, count: int) -> list[list[tuple[int, ...] | None]]:
    """Colours of the strip's first columns, in each of four layers; None where nothing is painted."""
    url, column, gutter = canvas.evaluate(
        "(one) => [one.toDataURL(), +one.dataset.column, +one.dataset.gutter]"
    )
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")
    row = (image.height - 1) // 4
    cells = []
    for index in range(count):
        place = int(gutter + (index + 0.5) * column)
        colours = [image.getpixel((place, int((layer + 0.25) * row))) for layer in range(4)]
        cells.append([colour if colour[3] else None for colour in colours])
    return cells


def test_the_strip_shows_which_expert_worked_where(visit: Visit, engine: ScriptedEngine) -> None:
    """Byte b went to expert b % 4 of three layers; the second layer is dense."""
    inside = visit.look_inside()
    inside.get_by_text("Ask something").wait_for()
    answer = visit.ask("Who?")
    assert engine.requests[-1].wants_experts and engine.requests[-1].sampling.num_logprobs == 6
    said = "camelids"
    assert inside.get_by_role("slider").get_attribute("aria-valuemax") == str(len(said))
    assert answer.locator(".token").all_inner_texts() == list(said)
    cells = cells_of(inside.locator("canvas"), len(said) + 1)
    assert set(cells[len(said)]) == {None}, "one column more than tokens is empty"
    for index, letter in enumerate(said):
        for layer in (0, 2, 3):
            for other, another in enumerate(said):
                is_same = cells[index][layer] == cells[other][0]
                assert is_same == (ord(letter) % 4 == ord(another) % 4), (letter, another)
        assert cells[index][1] is None, "nothing but a line where a layer is dense"
    counts = [3 * sum(ord(letter) % 4 == expert for letter in said) for expert in range(4)]
    titles = [bar.get_attribute("title") for bar in inside.locator(".load [data-expert]").all()]
    assert titles == [f"Expert {expert}: {count} of 24 times" for expert, count in enumerate(counts)]

    answer.locator(".token").nth(3).hover()
    inside.get_by_text("Token 4 of 8", exact=True).wait_for()
    assert answer.locator(".token.looked").inner_text() == "e"
    assert inside.locator(".route span").all_inner_texts() == ["1", "–", "1", "1"]
    column = inside.locator("canvas").evaluate("(one) => [+one.dataset.gutter, +one.dataset.column]")
    inside.locator("canvas").hover(position={"x": column[0] + 5.5 * column[1], "y": 8})
    assert answer.locator(".token.looked").inner_text() == "i"
    inside.get_by_role("slider").press("ArrowLeft")
    assert answer.locator(".token.looked").inner_text() == "l"

    visit.reload()
    assert inside.get_by_role("slider").get_attribute("aria-valuemax") == "8", (
        "it is kept with the conversation"
    )
    visit.page.get_by_role("button", name="Look inside").click()
    assert inside.is_hidden()
    visit.ask("And now?")
    assert not engine.requests[-1].wants_experts and engine.requests[-1].sampling.num_logprobs is None


def test_alternatives_of_a_real_model(browser: Browser) -> None:
    with serving() as address, visiting(browser, address) as visit:
        inside = visit.look_inside()
        visit.set(Longest_answer="24", Seed="1", Temperature="1", Top_p="1")
        answer = visit.ask("Is a camel a horse?")
        assert inside.get_by_role("slider").get_attribute("aria-valuemax") == "24"
        assert inside.get_by_text("Least sure").is_visible()
        answer.locator(".said").focus()
        for key in ("Home", *["ArrowRight"] * 23):
            visit.page.keyboard.press(key)
            rows = inside.locator(".bars li:not(.rest)")
            chances = [float(row.get_attribute("data-probability") or "nan") for row in rows.all()]
            assert chances[:6] == sorted(chances[:6], reverse=True) and 0 < sum(chances) <= 1 + 1e-6
            assert inside.locator(".bars .chosen").count() == 1
            rest = inside.locator(".bars .rest")
            rest_chance = float(rest.get_attribute("data-probability") or "nan") if rest.count() else 0
            assert sum(chances) + rest_chance == pytest.approx(1, abs=1e-3)
            assert inside.locator(".route span").count() == 6
            scale = float(re.findall(r"bars to (\d+) %", inside.locator("h3 small").inner_text())[0]) / 100
            shares = inside.locator(".bars b").evaluate_all(
                "(all) => all.map((one) => one.firstChild.getBoundingClientRect().width / one.clientWidth)"
            )
            assert shares == pytest.approx([max(chance / scale, 0.005) for chance in chances], abs=0.01)
