"""The pages in a real WebKit: what it does otherwise than Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from parastream.server.http.pages import WEB
from parastream.streaming.events import Partial, SpeechStarted
from selenium.webdriver import WebKitGTK
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ..server.fakes import FakeEngine
from ..waiting import wait_until
from .browsing import serving_in_thread
from .test_reading import said, speaking, texts
from .webkit import running_webkit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def webkit() -> Iterator[WebKitGTK]:
    with running_webkit() as webkit:
        yield webkit


@contextmanager
def serving_pages(webkit: WebKitGTK, engine: FakeEngine | None = None, **settings: Any) -> Iterator[str]:
    """The address of a server's pages, which are left before it ends."""
    with serving_in_thread(engine or FakeEngine(), **settings) as url:
        try:
            yield url
        finally:
            webkit.get("about:blank")


def ask(webkit: WebKitGTK, expression: str, *values: Any) -> Any:
    """The value of an expression in the page."""
    return webkit.execute_script(f"return {expression}", *values)


ON_TOP = "document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest('#projector') != null"


@pytest.mark.parametrize("way", ["button", "key"])
@pytest.mark.parametrize("path", ["/", "/live/hall"])
def test_the_projector_is_on_top_of_the_page(webkit: WebKitGTK, way: str, path: str) -> None:
    with serving_pages(webkit) as url:
        webkit.get(url + path)
        wait_until(lambda: ask(webkit, "document.querySelector('#theme').title") != "")
        if way == "button":
            webkit.find_element(By.ID, "open-projector").click()
        else:
            webkit.find_element(By.TAG_NAME, "body").send_keys("f")
        wait_until(lambda: ask(webkit, "document.fullscreenElement !== null"))
        wait_until(lambda: ask(webkit, ON_TOP))
        webkit.find_element(By.TAG_NAME, "body").send_keys(Keys.NULL + "f")
        wait_until(lambda: not ask(webkit, "document.querySelector('#projector').open"))
        wait_until(lambda: ask(webkit, "document.fullscreenElement === null"))


def test_drafts_are_underlined_and_lines_come_as_the_reader_scrolls(webkit: WebKitGTK) -> None:
    engine = FakeEngine()
    with (
        serving_pages(webkit, engine, max_unsent=5000) as url,
        speaking(engine, url, "hall") as stream,
    ):
        stream.tell([*said(0, 300), SpeechStarted(300, 300.0), Partial(300, 300.0, 301.0, "and", " more", ())])
        webkit.get(f"{url}/live/hall")
        wait_until(lambda: ask(webkit, "document.querySelectorAll('#drafts .draft').length"))
        draft = "getComputedStyle(document.querySelector('#drafts .draft'))"
        assert ask(webkit, f"{draft}.textDecorationLine") == "underline"
        assert ask(webkit, f"{draft}.textDecorationStyle") == "dotted"
        shown = "[...document.querySelectorAll('#lines .text')].map(text => text.textContent)"
        assert ask(webkit, shown) == texts(250, 300)
        while not ask(webkit, "document.querySelector('#earlier').hidden"):
            seen = ask(webkit, f"{shown}.length")
            top = ask(webkit, "document.querySelector('#lines li').textContent")
            webkit.execute_script("document.querySelector('#scroller').scrollTop = 0")
            wait_until(lambda: ask(webkit, f"{shown}.length") > seen)  # noqa: B023 - is waited for here
            place = f"[...document.querySelectorAll('#lines li')].find(line => line.textContent === {top!r})"
            assert abs(ask(webkit, f"{place}.getBoundingClientRect().top") - 60) < 120
        assert ask(webkit, shown) == texts(0, 300)


CHOOSE = """
    const samples = 32000, bytes = new ArrayBuffer(44 + 2 * samples), view = new DataView(bytes);
    const letters = (place, text) => [...text].forEach((letter, at) => view.setUint8(place + at, letter.charCodeAt(0)));
    letters(0, "RIFF"), view.setUint32(4, 36 + 2 * samples, true), letters(8, "WAVEfmt ");
    view.setUint32(16, 16, true), view.setUint16(20, 1, true), view.setUint16(22, 1, true);
    view.setUint32(24, 16000, true), view.setUint32(28, 32000, true);
    view.setUint16(32, 2, true), view.setUint16(34, 16, true);
    letters(36, "data"), view.setUint32(40, 2 * samples, true);
    const chosen = new DataTransfer(), field = document.querySelector("#file");
    chosen.items.add(new File([bytes], "silence.wav", { type: "audio/wav" }));
    field.files = chosen.files;
    field.dispatchEvent(new Event("change"));
"""


def test_a_file_says_what_to_press_where_the_browser_plays_nothing_by_itself(webkit: WebKitGTK) -> None:
    engine = FakeEngine()
    with serving_pages(webkit, engine) as url:
        webkit.get(url)
        wait_until(lambda: ask(webkit, "document.querySelector('#theme').title") != "")
        webkit.execute_script(CHOOSE)
        wait_until(lambda: ask(webkit, "document.querySelector('#status-text').textContent") == "Press to begin")
        assert ask(webkit, "document.querySelector('#main-label').textContent") == "Begin"
        assert engine.streams == []
        webkit.find_element(By.ID, "main").click()
        wait_until(lambda: ask(webkit, "document.querySelector('#status-text').textContent") == "Stopped")
        assert len(engine.streams) == 1


def test_a_transcript_is_kept(webkit: WebKitGTK) -> None:
    script = """
        const done = arguments[0];
        (async () => {
            const { Kept } = await import("/web/kept.js");
            const { Transcript } = await import("/web/transcript.js");
            const transcript = new Transcript(), kept = new Kept(transcript);
            await kept.open();
            transcript.add({ id: "a.0", speaker: "", start: 0, end: 1, text: "One.", words: [] });
            return kept.works;
        })().then(done, error => done(String(error)));
    """
    with serving_pages(webkit) as url:
        webkit.get(f"{url}/live")
        assert webkit.execute_async_script(script) is True
        webkit.get(url)
        wait_until(lambda: ask(webkit, "document.querySelector('#status-text').textContent") == "Kept from before")
        assert ask(webkit, "document.querySelector('#lines .text').textContent") == "One."


def declarations() -> list[tuple[str, str, str]]:
    """File, property and value of what the style sheets declare, but for what a later line replaces if it is known."""
    found = []
    for file in sorted(WEB.glob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
        for block in re.findall(r"\{([^{}]*)\}", text):
            seen: set[str] = set()
            for declaration in filter(None, (part.strip() for part in block.split(";"))):
                name, _, value = (part.strip() for part in declaration.partition(":"))
                if name not in seen:  # what comes first is for browsers that do not know what comes after
                    found.append((file.name, name, value))
                seen.add(name)
    return found


OPTIONAL = {
    "text-size-adjust",  # beside its prefixed form
    "-webkit-text-size-adjust",
    "box-decoration-break",
    "-webkit-box-decoration-break",
    "scrollbar-width",
    "overflow-anchor",  # there is none to be turned off
}
"""Properties without which a page is as good, or which have another form beside them."""


def test_webkit_takes_every_declaration_of_the_style_sheets(webkit: WebKitGTK) -> None:
    with serving_pages(webkit) as url:
        webkit.get(url)
        asked = [each for each in declarations() if not each[1].startswith("--") and each[1] not in OPTIONAL]
        assert len(asked) > 200
        plain = [[name, value.removesuffix("!important").strip()] for _, name, value in asked]
        known = ask(webkit, "arguments[0].map(([name, value]) => CSS.supports(name, value))", plain)
    assert [each for each, supported in zip(asked, known, strict=True) if not supported] == []
