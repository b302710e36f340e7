"""The page as people use it: asking, stopping, asking again, editing, keeping, by pointer and by keyboard."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import httpx
import pytest
from playwright.sync_api import Browser

from browsing import Visit, running_browser, visiting
from camelid.infer.request import QueueFull, Request, TokenEvent
from camelid.serve import Limits
from camelid.testing.scripted_engine import ScriptedEngine
from served import chat_format, scripted, serving

SAID = "A **camel** has two humps.\n\n```python\nhumps = 2\n```"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as one:
        yield one


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(SAID)


@pytest.fixture(scope="module")
def address(engine: ScriptedEngine) -> Iterator[str]:
    with serving(scripted(engine)) as one:
        yield one


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    with visiting(browser, address) as one:
        yield one


def asked(engine: ScriptedEngine) -> str:
    """The last prompt, as text."""
    return chat_format().tokenizer.decode(engine.requests[-1].prompt.token_ids.tolist())


def test_headers_and_files() -> None:
    with serving(scripted(ScriptedEngine("x")), Limits(api_keys=("key",))) as address:
        page = httpx.get(address)
        policy = page.headers["content-security-policy"]
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in policy and "unsafe" not in policy
        for name, kind in (
            ("app.js", "text/javascript"),
            ("base.css", "text/css"),
            ("icon.svg", "image/svg+xml"),
        ):
            file = httpx.get(f"{address}/page/{name}")
            assert file.status_code == 200 and file.headers["content-type"].startswith(kind)
            again = httpx.get(f"{address}/page/{name}", headers={"if-none-match": file.headers["etag"]})
            assert again.status_code == 304 and not again.content
        for name in ("nothing.js", "..%2Fapp.py", "%2Fetc%2Fpasswd"):
            assert httpx.get(f"{address}/page/{name}").status_code == 404
        headers = {"authorization": "Bearer key"}
        assert "/page/{name}" not in httpx.get(f"{address}/openapi.json", headers=headers).json()["paths"]


def test_an_answer_comes_in_as_markdown_with_its_counts(visit: Visit, engine: ScriptedEngine) -> None:
    answer = visit.ask("How many humps?")
    assert (
        answer.locator("strong").inner_text() == "camel" and answer.locator("pre").inner_text() == "humps = 2"
    )
    facts = answer.locator(".facts").inner_text()
    assert f"{len(SAID)} tokens" in facts and "tokens/s" in facts and "first after" in facts
    assert f"3 of {len(engine.requests[-1].prompt)} prompt tokens cached" in facts
    used = f"{len(engine.requests[-1].prompt) + len(SAID)} of 1,000 tokens of context"
    assert visit.page.locator("#context").inner_text() == used
    assert visit.page.locator("#status").inner_text().startswith("A **camel**"), "those who hear it are told"
    assert visit.message.input_value() == ""

    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer.get_by_role("button", name="Copy the code").click()
    assert visit.page.evaluate("navigator.clipboard.readText()") == "humps = 2"


def test_it_streams_and_stops(browser: Browser) -> None:
    endless = ScriptedEngine("on and ", is_endless=True, max_context=10**9)
    with serving(scripted(endless)) as address, visiting(browser, address) as visit:
        for number, stop in enumerate(("Escape", "click"), start=1):
            answer = visit.ask("Go on", waits=False)
            visit.page.wait_for_function(
                "() => document.querySelector('.answer:last-child .said').textContent.length > 40"
            )
            assert (
                answer.get_attribute("aria-busy") == "true"
                and "tokens" in answer.locator(".facts").inner_text()
            )
            if stop == "Escape":
                visit.page.keyboard.press("Escape")
            else:
                visit.page.get_by_role("button", name="Stop").click()
            visit.wait_finished(answer)
            assert answer.locator(".facts").inner_text().endswith("stopped")
            deadline = time.monotonic() + 10
            while endless.num_cancelled < number and time.monotonic() < deadline:
                time.sleep(0.01)
            assert (endless.num_cancelled, endless.num_running) == (number, 0), "the server works on"
        kept = answer.locator(".said").inner_text()
        visit.reload()
        assert visit.answers.nth(1).locator(".said").inner_text() == kept


def test_again_and_edit_cut_what_came_after(visit: Visit, engine: ScriptedEngine) -> None:
    visit.ask("First question")
    visit.ask("Second question")
    assert "First question" in asked(engine) and "Second question" in asked(engine)
    visit.answers.nth(0).get_by_role("button", name="Answer again").click()
    visit.page.locator(".turn").nth(2).wait_for(state="detached")
    visit.wait_finished(visit.answers.nth(0))
    assert visit.page.locator(".turn").count() == 2
    assert "First question" in asked(engine) and "Second question" not in asked(engine)

    visit.ask("Third question")
    first = visit.page.locator(".question").nth(0)
    first.hover()
    first.get_by_role("button", name="Edit the question").click()
    field = visit.page.get_by_role("textbox", name="Edit the question")
    assert field.input_value() == "First question"
    field.press("Escape")
    assert first.locator(".said").inner_text() == "First question" and visit.answers.count() == 2
    first.hover()
    first.get_by_role("button", name="Edit the question").click()
    field.fill("Another question")
    field.press("Enter")
    visit.page.locator(".turn").nth(2).wait_for(state="detached")
    visit.wait_finished(visit.answers.nth(0))
    assert (
        "Another question" in asked(engine) and "First" not in asked(engine) and "Third" not in asked(engine)
    )


def test_conversations_are_kept_renamed_and_deleted(visit: Visit) -> None:
    page = visit.page
    visit.ask("About camels")
    page.get_by_role("button", name="New conversation").click()
    assert visit.answers.count() == 0
    visit.ask("About llamas")
    visit.reload()
    assert page.locator(".question .said").inner_text() == "About llamas" and visit.answers.count() == 1
    page.get_by_role("button", name="About camels", exact=True).click()
    page.locator("h1", has_text="About camels").wait_for()
    assert page.locator(".question .said").inner_text() == "About camels"

    row = page.locator("#conversations li", has_text="About camels")
    row.hover()
    row.get_by_role("button", name="Rename").click()
    name = page.get_by_role("textbox", name="Name of the conversation")
    name.fill("Humps")
    name.press("Enter")
    page.locator("h1", has_text="Humps").wait_for()
    visit.reload()
    assert page.locator("h1").inner_text() == "Humps"

    row = page.locator("#conversations li", has_text="Humps")
    for answer, left in (("Cancel", 2), ("Delete", 1)):
        row.hover()
        row.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name=answer).click()
        if answer == "Delete":
            row.wait_for(state="detached")
        assert page.locator("#conversations li").count() == left
    visit.reload()
    assert page.locator("#conversations li").inner_text() == "About llamas"


def test_settings_are_sent_and_kept(visit: Visit, engine: ScriptedEngine) -> None:
    visit.set(System_prompt="Be brief.", Temperature="0.25", Top_p="0.5", Longest_answer="7", Seed="11")
    visit.reload()
    answer = visit.ask("Hello")
    sampling = engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed) == (0.25, 0.5, 7, 11)
    assert sampling.num_logprobs is None and not engine.requests[-1].wants_experts, "nobody looks inside"
    assert (
        "Be brief." in asked(engine) and "cut off at the token limit" in answer.locator(".facts").inner_text()
    )
    visit.set(Longest_answer="", Temperature="", Top_p="", Seed="")
    visit.ask("Hello")
    sampling = engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (1.0, 1.0, 1000)


def test_a_key_is_asked_for_and_kept(browser: Browser) -> None:
    limits = Limits(api_keys=("sesame",))
    with (
        serving(scripted(ScriptedEngine("Open.")), limits) as address,
        visiting(browser, address, is_ready=False) as visit,
    ):
        dialog = visit.page.get_by_role("dialog", name="Settings")
        dialog.wait_for()
        assert "wants an API key" in dialog.inner_text()
        visit.page.keyboard.type("sesame")
        visit.page.keyboard.press("Enter")
        visit.wait_ready()
        assert visit.ask("Hello").locator(".said").inner_text() == "Open."
        visit.reload()
        assert "401" in visit.problems.pop(), "which the browser reports"


class FullEngine(ScriptedEngine):
    async def stream(self, *requests: Request) -> AsyncGenerator[TokenEvent]:
        raise QueueFull("256 requests are waiting")
        yield


class FailingEngine(ScriptedEngine):
    async def stream(self, *requests: Request) -> AsyncGenerator[TokenEvent]:
        async with aclosing(super().stream(*requests)) as events:
            async for event in events:
                yield event
                if event.text == "l":
                    raise RuntimeError("out of order")


def test_what_fails_in_the_middle_keeps_what_was_said(browser: Browser) -> None:
    with serving(scripted(FailingEngine("camels"))) as address, visiting(browser, address) as visit:
        answer = visit.ask("Hello")
        assert answer.locator(".said").inner_text() == "camel"
        assert answer.get_by_role("alert").inner_text() == "the engine has stopped"
        answer.get_by_role("button", name="Answer again").click()
        visit.answers.get_by_text("the engine has stopped").wait_for()
        assert visit.answers.count() == 1


def test_what_the_server_refuses_is_said(browser: Browser, address: str) -> None:
    with serving(scripted(FullEngine("x"))) as full, visiting(browser, full) as visit:
        assert "The server is busy. Try again in 2 seconds." in visit.ask("Hello").inner_text()
        assert "429" in visit.problems.pop()
    with visiting(browser, address) as visit:
        answer = visit.ask("word " * 400)
        assert "the context is 1,000" in answer.get_by_role("alert").inner_text()
        assert "400" in visit.problems.pop()


def test_dark_and_light(browser: Browser, address: str) -> None:
    ground = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3))"
    for scheme, is_dark in (("light", False), ("dark", True)):
        with visiting(browser, address, color_scheme=scheme) as visit:
            assert (visit.page.evaluate(ground) < 60) == is_dark
            visit.page.get_by_role("button", name="Dark or light").click()
            assert (visit.page.evaluate(ground) < 60) != is_dark
            visit.reload()
            assert (visit.page.evaluate(ground) < 60) != is_dark, "the choice outlives the page"


def test_keyboard_alone(visit: Visit, engine: ScriptedEngine) -> None:
    page, keyboard = visit.page, visit.page.keyboard
    skip = page.get_by_role("link", name="Skip to the message field")
    assert (
        page.evaluate("document.querySelector('a, button, input, textarea').textContent") == skip.inner_text()
    )
    skip.focus()
    box = skip.bounding_box()
    assert box is not None and box["y"] > 0, "it is seen while it has the focus"
    keyboard.press("Enter")
    keyboard.type("One")
    keyboard.press("Shift+Enter")
    keyboard.type("Two")
    keyboard.press("Enter")
    visit.answers.first.wait_for()
    visit.wait_finished(visit.answers.first)
    assert "One\nTwo" in asked(engine)

    keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.value") == "One\nTwo"
    keyboard.type("!")
    keyboard.press("Enter")
    visit.wait_finished(visit.answers.first)
    assert "One\nTwo!" in asked(engine)

    page.get_by_role("button", name="Look inside").focus()
    keyboard.press("Enter")
    keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "message" and visit.message.input_value() == ""
    keyboard.type("Look")
    keyboard.press("Enter")
    visit.answers.nth(1).wait_for()
    visit.wait_finished(visit.answers.nth(1))
    visit.answers.nth(1).locator(".said").focus()
    for key, expected in (
        ("Home", 1),
        ("ArrowRight", 2),
        ("ArrowRight", 3),
        ("ArrowLeft", 2),
        ("End", len(SAID)),
    ):
        keyboard.press(key)
        assert page.get_by_role("slider").get_attribute("aria-valuenow") == str(expected)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is seen"


def test_everything_to_press_has_a_name(visit: Visit) -> None:
    visit.ask("Hello")
    visit.look_inside()
    visit.page.get_by_role("button", name="Settings").click()
    nameless = visit.page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, [tabindex='0'][role]")]
             .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length))
             .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert visit.page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_narrow_screen(browser: Browser, is_inside: bool) -> None:
    wide = (
        "x" * 300 + " | a |\n\n```\n" + "y" * 300 + "\n```\n\n| a | b |\n|--|--|\n|" + "z " * 60 + "| 1 |\n"
    )
    phone = {"viewport": {"width": 360, "height": 720}, "has_touch": True, "is_mobile": True}
    with (
        serving(scripted(ScriptedEngine(wide, max_context=5000))) as address,
        visiting(browser, address, **phone) as visit,
    ):
        page = visit.page
        if is_inside:
            visit.look_inside()
        visit.ask("w" * 200)
        widths = "[document.documentElement.scrollWidth, document.getElementById('transcript').scrollWidth]"
        assert page.evaluate(widths) == [360, 360]
        send = page.get_by_role("button", name="Send").bounding_box()
        assert send is not None and send["x"] + send["width"] <= 360 and send["y"] + send["height"] <= 720

        page.get_by_role("button", name="Conversations", exact=True).click()
        page.get_by_role("button", name="New conversation").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="New conversation").wait_for(state="hidden")
        assert page.evaluate(widths) == [360, 360]
