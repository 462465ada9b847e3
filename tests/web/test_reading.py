"""The pages of rooms in a real Chromium: late comers, readers who were away, names, looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from parastream.streaming.events import Event, Final, Partial, SpeechStarted, Word
from playwright.sync_api import Browser, WebSocketRoute, expect
from websockets.sync.client import connect

from ..server.fakes import FakeEngine, FakeStream
from ..waiting import wait_until
from .browsing import eventually, lines, opened, serving_in_thread, status

pytestmark = pytest.mark.browser

MANY = 5000
"""Messages that may wait for a client to read them: more than the tests say at once."""


@contextmanager
def speaking(engine: FakeEngine, url: str, room: str) -> Iterator[FakeStream]:
    """A session that speaks in a room what the test has its stream tell."""
    before = len(engine.streams)
    with connect(url.replace("http", "ws") + "/v1/stream", max_queue=None) as socket:
        socket.send(json.dumps({"type": "start", "room": room}))
        assert json.loads(socket.recv())["type"] == "ready"
        wait_until(lambda: len(engine.streams) > before)
        yield engine.streams[-1]


def said(first: int, last: int) -> list[Event]:
    """Finals of some utterances, a second each."""
    finals: list[Event] = []
    for number in range(first, last):
        words = (Word("line", number, number + 0.5, 0.5), Word(f"{number}", number + 0.5, number + 0.9, 0.5))
        finals += [
            SpeechStarted(number, float(number)),
            Final(number, float(number), number + 0.9, f"line {number}", words, 0.5),
        ]
    return finals


def texts(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last)]


def test_late_comers_read_everything_as_they_scroll_up(browser: Browser) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine, max_unsent=MANY) as url, speaking(engine, url, "hall") as stream:
        stream.tell(said(0, 600))
        with opened(browser, f"{url}/live/hall", viewport={"width": 900, "height": 400}) as page:
            expect(lines(page)).to_have_text(texts(550, 600))
            expect(page.get_by_role("button", name="550 earlier lines")).to_be_attached()
            seen = 0
            while lines(page).count() < 600:
                # The line that was on top stays there while others come above it.
                seen = lines(page).count()
                top = lines(page).nth(0).inner_text()
                page.locator("#scroller").evaluate("scroller => scroller.scrollTop = 0")
                eventually(page, lambda: lines(page).count() > seen)  # noqa: B023 - is waited for here
                assert page.locator("#lines li", has=page.get_by_text(top, exact=True)).evaluate(
                    """line => Math.abs(line.getBoundingClientRect().top
                        - document.querySelector("#scroller").getBoundingClientRect().top) < 120"""
                )
            assert lines(page).all_inner_texts() == texts(0, 600)
            expect(page.locator("#earlier")).to_be_hidden()
            stream.tell(said(600, 601))
            expect(lines(page)).to_have_count(601)
            page.keyboard.press("End")
            expect(lines(page).last).to_be_in_viewport()


def test_a_large_window_is_filled_without_scrolling(browser: Browser) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, speaking(engine, url, "hall") as stream:
        stream.tell(said(0, 90))
        with opened(browser, f"{url}/live/hall", viewport={"width": 900, "height": 3000}) as page:
            expect(lines(page)).to_have_text(texts(0, 90))


def test_a_reader_who_was_away_gets_what_was_said_meanwhile(browser: Browser) -> None:
    engine = FakeEngine()
    connections: list[WebSocketRoute] = []

    def join(socket: WebSocketRoute) -> None:
        if connections:
            stream.tell(said(10, 500))
        connections.append(socket.connect_to_server())

    with serving_in_thread(engine, max_unsent=MANY) as url, speaking(engine, url, "hall") as stream:
        stream.tell([*said(0, 10), SpeechStarted(1000, 9.95), Partial(1000, 9.95, 10.0, "still", " going", ())])
        with opened(browser, "about:blank") as page:
            page.route_web_socket("**/v1/rooms/*", join)
            page.goto(f"{url}/live/hall")
            expect(lines(page)).to_have_count(10)
            connections[0].close(code=4000)
            expect(lines(page)).to_have_text(texts(0, 500))
            stream.tell([Final(1000, 9.95, 10.0, "still going on", (), 0.5)])
            expect(lines(page).nth(10)).to_have_text("still going on")  # in its place


def test_a_room_that_was_restarted_while_a_reader_was_away_is_read_from_its_beginning(browser: Browser) -> None:
    script = """async () => {
        const { Room } = await import("/web/room.js");
        const { Transcript } = await import("/web/transcript.js");
        const sockets = [], transcript = new Transcript(), asked = [];
        const all = [...Array(120).keys()].map(n => ({ line: n, speaker: "", start: n, end: n + 1, text: `new ${n}` }));
        const history = async before => {
            asked.push(before);
            if (asked.length === 1) throw new Error("not now");
            const first = Math.max(before - 30, 0);
            return { id: "b", lines: all.slice(first, before), earlier: first };
        };
        window.setTimeout = call => queueMicrotask(call);
        const open = () => { sockets.push({ close() {} }); return sockets.at(-1); };
        const room = new Room(open, async () => "ready", transcript, history);
        room.addEventListener("older", ({ detail }) => detail());
        const tell = message => sockets.at(-1).onmessage({ data: JSON.stringify(message) });
        const old = { line: 0, speaker: "", start: 0, end: 9, text: "old" };
        tell({ type: "room", room: "x", live: true, id: "a", lines: [old], earlier: 0 });
        room.retry();
        sockets.at(-1).onclose({ code: 1006, reason: "" });
        await 0;
        room.retry();
        tell({ type: "room", room: "x", live: true, id: "b", lines: all.slice(70), earlier: 70 });
        for (let turn = 0; turn < 100; turn++) await 0;
        return [asked, transcript.lines.map(({ text }) => text), transcript.lines.at(-1).end];
    }"""
    with serving_in_thread(FakeEngine()) as url, opened(browser, f"{url}/live") as page:
        asked, shown, end = page.evaluate(script)
    assert asked == [70, 70, 40, 10]
    assert shown == ["old", *(f"new {number}" for number in range(120))]
    assert end == 129


def test_a_reader_is_asked_for_the_token(browser: Browser) -> None:
    with (
        serving_in_thread(FakeEngine(), token="speak", viewer_token="see") as url,
        opened(browser, f"{url}/live/hall") as page,
    ):
        dialog = page.get_by_role("dialog", name="This server asks for a token")
        dialog.get_by_label("Token").fill("see")
        dialog.get_by_role("button", name="Continue").click()
        expect(status(page)).to_have_text("Waiting for a speaker")


@pytest.mark.parametrize("name", ["会议室", "зал-2", "हॉल"])
def test_names_of_rooms_in_any_script(browser: Browser, name: str) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, speaking(engine, url, name) as stream:
        stream.tell(said(0, 60))
        with opened(browser, f"{url}/live/{name}", viewport={"width": 900, "height": 3000}) as page:
            expect(page.get_by_role("heading", name=name)).to_be_visible()
            expect(lines(page)).to_have_text(texts(0, 60))
            page.keyboard.press("d")
            with page.expect_download() as downloading:
                page.get_by_role("link", name="TXT").click()
            assert downloading.value.suggested_filename == f"{name}.txt"
            assert downloading.value.path().read_text().splitlines() == texts(0, 60)
        with opened(browser, f"{url}/overlay/{quote(name)}/?lines=1") as page:
            assert page.url.endswith(f"/overlay/{quote(name)}?lines=1")
            expect(lines(page)).to_have_count(20)


def test_addresses_that_name_no_room_ask_for_one(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, f"{url}/live/") as page:
        assert page.url == f"{url}/live"
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_label("Name of the room").fill("main 会")
        expect(page.get_by_label("Name of the room")).to_have_value("main-会")
        page.get_by_role("button", name="Read along").click()
        expect(page.get_by_role("heading", name="main-会")).to_be_visible()
        page.goto(f"{url}/overlay/<b>x</b>")
        expect(page.get_by_role("alert")).to_contain_text("There is no room “<b>x</b>”")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/overlay/-b-x-b-")


def test_input_methods_are_not_disturbed_while_they_compose_a_name(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.keyboard.press("r")
        field = page.get_by_label("Name of the room")
        field.evaluate(
            """field => {
                field.value = "hui'yi";
                field.dispatchEvent(new InputEvent("input", { isComposing: true }));
            }"""
        )
        expect(field).to_have_value("hui'yi")
        field.evaluate(
            """field => { field.value = "会议！"; field.dispatchEvent(new CompositionEvent("compositionend")); }"""
        )
        expect(field).to_have_value("会议-")
        expect(page.locator("#room-link")).to_have_text(f"{url}/live/会议-")


DRAFTS = {"": "none", "drafts=plain": "none", "drafts=underlined": "underline", "drafts=off": None}


@pytest.mark.parametrize("query", DRAFTS)
def test_drafts_of_the_overlay(browser: Browser, query: str) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, speaking(engine, url, "hall") as stream:
        stream.tell([*said(0, 1), SpeechStarted(1, 1.0), Partial(1, 1.0, 2.0, "and", " more", ())])
        with opened(browser, f"{url}/overlay/hall?{query}") as page:
            expect(lines(page)).to_have_count(1)
            draft = page.locator("#drafts .draft")
            decoration = DRAFTS[query]
            if decoration is None:
                expect(draft).to_be_hidden()
                expect(draft).to_have_text("more")
            else:
                expect(draft).to_be_visible()
                expect(draft).to_have_css("text-decoration-line", decoration)
                expect(draft).to_have_css("text-decoration-style", "solid")


@pytest.mark.parametrize("value", ["constructor", "__proto__", "no such thing"])
def test_looks_that_do_not_exist_leave_the_overlay_as_it_is(browser: Browser, value: str) -> None:
    queries = ["", *(f"{name}={value}" for name in ("font", "align", "color", "background", "size", "lines", "drafts"))]
    with serving_in_thread(FakeEngine()) as url, opened(browser, "about:blank") as page:
        looks = []
        for query in queries:
            page.goto(f"{url}/overlay/hall?{query}")
            expect(page.locator("#captions")).to_be_attached()
            looks.append(page.locator("#captions").get_attribute("style"))
        assert looks[0]
        assert looks == [looks[0]] * len(queries)


@pytest.mark.parametrize("system", ["light", "dark"])
def test_each_press_of_the_key_for_colours_is_seen(browser: Browser, system: str) -> None:
    background: list[str] = []
    with serving_in_thread(FakeEngine()) as url, opened(browser, f"{url}/live/hall", color_scheme=system) as page:
        for _ in range(4):
            seen = page.locator("html").evaluate("html => getComputedStyle(html).backgroundColor")
            background.append(seen)
            page.keyboard.press("t")
        assert background[0] != background[1]
        assert background == 2 * background[:2]


def test_paper_is_white_whatever_the_colours(browser: Browser) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, speaking(engine, url, "hall") as stream:
        stream.tell(said(0, 3))
        with opened(browser, f"{url}/live/hall", color_scheme="light") as page:
            page.keyboard.press("t")
            expect(page.locator("html")).to_have_attribute("data-theme", "dark")
            expect(lines(page)).to_have_count(3)
            page.keyboard.press("f")
            page.emulate_media(media="print", color_scheme="dark")
            expect(lines(page).first).to_have_css("color", "rgb(0, 0, 0)")
            expect(page.locator("html")).to_have_css("background-color", "rgb(255, 255, 255)")
            expect(page.locator("#projector")).to_be_hidden()
