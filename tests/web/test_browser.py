"""The pages in a real Chromium, on real speech and the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pysubs2
import pytest
import soundfile
import webvtt
from axe_playwright_python.sync_playwright import Axe
from parastream.model.errors import CapacityError
from playwright.sync_api import Browser, JSHandle, Page, WebSocket, WebSocketRoute, expect

from ..conftest import SAMPLE, SAMPLE_TEXTS
from ..server.fakes import UTTERANCE, FakeEngine, TimedEngine
from .browsing import (
    FIRST_SENTENCE,
    NOT_SECURE,
    ServerProcess,
    Shown,
    as_soon_as,
    eventually,
    let_hear,
    lines,
    opened,
    serving_in_thread,
    status,
)

pytestmark = pytest.mark.browser

SPOKEN = SAMPLE_TEXTS[:2]
"""Of two sentences: what is heard in the third depends on how the browser's resampling happens to begin."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    process = ServerProcess()
    process.start()
    yield process
    process.kill()


KEEP_CONTEXTS = """() => {
    window.contexts = [];
    const Original = AudioContext;
    window.AudioContext = class extends Original { constructor(...args) { super(...args); contexts.push(this); } };
}"""
"""Makes the audio contexts of a page known to the test."""


# --- one talk, spoken once -------------------------------------------------------------------------------


@dataclass
class Talk:
    """The recording was spoken in the room `hall`, and the microphone still listens."""

    speaker: Page
    reader: Page
    """Had the room's page open from the start."""
    drafts: list[list[str]]
    """What was shown below the finished sentences, one after the other: how many those were, stable and draft text."""
    frames: list[str]
    """What the speaker's page sends: `audio`, or the type of a message."""


def gaps(page: Page) -> list[int]:
    """The seconds between the times beside the lines."""
    times = [text.split(":") for text in page.locator("#lines time").all_inner_texts()]
    seconds = [60 * int(minutes) + int(rest) for minutes, rest in times]
    return [other - one for one, other in pairwise(seconds)]


@pytest.fixture(scope="module")
def talk(browser: Browser, server: ServerProcess, two_sentences: Path) -> Iterator[Talk]:
    frames: list[str] = []

    def watch(socket: WebSocket) -> None:
        socket.on(
            "framesent",
            lambda data: frames.append("audio" if isinstance(data, bytes) else json.loads(data)["type"]),
        )

    with (
        opened(browser, f"{server.url}/live/hall") as reader,
        opened(browser, f"{server.url}/?room=hall", permissions=["clipboard-read", "clipboard-write"]) as speaker,
    ):
        expect(status(reader)).to_have_text("Waiting for a speaker")
        speaker.on("websocket", watch)
        speaker.evaluate(KEEP_CONTEXTS)
        let_hear(speaker, two_sentences)
        speaker.evaluate(
            """() => {
                window.seen = [];
                const drafts = document.querySelector("#drafts");
                new MutationObserver(() => window.seen.push([
                    String(document.querySelectorAll("#lines li").length),
                    drafts.querySelector(".stable")?.textContent ?? "",
                    drafts.querySelector(".draft")?.textContent ?? "",
                ])).observe(drafts, {childList: true});
            }"""
        )
        speaker.get_by_role("button", name="Start captions").click()
        expect(status(speaker)).to_have_text("Listening")
        expect(lines(speaker)).to_have_text(SPOKEN)
        yield Talk(speaker, reader, speaker.evaluate("window.seen"), frames)


def test_words_appear_while_they_are_spoken(talk: Talk) -> None:
    first = [(stable, draft) for count, stable, draft in talk.drafts if count == "0" and stable + draft]
    shown = [f"{stable} {draft}".split() for stable, draft in first]
    assert len(shown[0]) < len(shown[-1]), shown
    assert "one" in shown[-1], "which word is heard first depends on where a window begins"
    for (one, _), (other, _) in pairwise(first):
        assert other.startswith(one)
    assert gaps(talk.speaker) in ([3], [4])
    assert talk.frames[0] == "start"


def test_readers_see_the_same_in_other_browsers(browser: Browser, server: ServerProcess, talk: Talk) -> None:
    expect(lines(talk.reader)).to_have_text(SPOKEN)
    expect(status(talk.reader)).to_have_text("Live")
    with opened(browser, f"{server.url}/live/hall") as late:
        expect(lines(late)).to_have_text(SPOKEN)
        expect(status(late)).to_have_text("Live")


def test_subtitles_are_those_of_the_room(server: ServerProcess, talk: Talk, tmp_path: Path) -> None:
    page = talk.speaker
    page.get_by_role("button", name="Save").click()
    files = {}
    for form in ("txt", "srt", "vtt", "json"):
        with page.expect_download() as downloading:
            page.locator(f"[data-format={form}]").click()
        files[form] = tmp_path / downloading.value.suggested_filename
        downloading.value.save_as(files[form])
    page.locator("#copy-text").click()
    expect(page.locator("#copy-text b")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == [*SPOKEN, ""]
    page.get_by_role("button", name="Done").click()

    captions = webvtt.read(str(files["vtt"])).captions
    assert [caption.text for caption in captions] == SPOKEN
    assert all(one.end_in_seconds <= other.start_in_seconds for one, other in pairwise(captions))
    events = pysubs2.load(str(files["srt"]), format_="srt").events
    assert [event.plaintext for event in events] == SPOKEN
    assert all(event.start < event.end for event in events)
    assert files["txt"].read_text().splitlines() == SPOKEN
    for form in ("txt", "srt", "vtt"):
        assert page.request.get(f"{server.url}/live/hall.{form}").text() == files[form].read_text()
    utterances = json.loads(files["json"].read_text())["utterances"]
    assert [" ".join(word["text"] for word in utterance["words"]) for utterance in utterances] == SPOKEN
    for utterance in utterances:
        assert utterance["start"] <= utterance["words"][0]["start"] < utterance["words"][-1]["end"] <= utterance["end"]


def test_readers_download_the_transcript(talk: Talk, tmp_path: Path) -> None:
    page = talk.reader
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="VTT").click()
    downloading.value.save_as(tmp_path / downloading.value.suggested_filename)
    page.get_by_role("button", name="Done").click()
    assert [caption.text for caption in webvtt.read(str(tmp_path / "hall.vtt")).captions] == SPOKEN


def test_projector(talk: Talk) -> None:
    page = talk.reader
    page.keyboard.press("f")
    projector = page.get_by_role("dialog", name="Projector view")
    expect(projector.locator(".text")).to_have_text(SPOKEN)
    projector.get_by_label("Size").fill("60")
    projector.get_by_label("Lines").fill("2")
    projector.get_by_label("Background").fill("#102030")
    projector.get_by_label("Font").select_option("serif")
    captions = projector.locator(".big-lines")
    expect(captions).to_have_css("font-size", "60px")
    expect(captions).to_have_css("height", "156px")  # two lines of 1.3 em
    expect(projector).to_have_css("background-color", "rgb(16, 32, 48)")
    page.keyboard.press("Escape")
    expect(projector).to_be_hidden()

    # It is remembered, but for what the address asks for.
    page.goto(page.url + "?projector&size=40&color=ffee00")
    expect(captions).to_have_css("font-size", "40px")
    expect(captions).to_have_css("height", "104px")
    expect(projector).to_have_css("color", "rgb(255, 238, 0)")
    expect(projector).to_have_css("background-color", "rgb(16, 32, 48)")
    projector.get_by_role("button", name="Leave").click()
    expect(lines(page)).to_have_text(SPOKEN)


def test_overlay(browser: Browser, server: ServerProcess, talk: Talk) -> None:
    with opened(browser, f"{server.url}/overlay/hall?lines=1&size=30&align=right&color=red") as page:
        expect(lines(page)).to_have_text(SPOKEN)
        captions = page.locator("#captions")
        expect(captions).to_have_css("height", "39px")
        expect(captions).to_have_css("text-align", "right")
        expect(captions).to_have_css("color", "rgb(255, 0, 0)")
        for element in ("html", "body"):
            expect(page.locator(element)).to_have_css("background-color", "rgba(0, 0, 0, 0)")
        assert (
            captions.evaluate(
                """box => [...box.querySelectorAll(".text")]
                .filter(text => text.getBoundingClientRect().bottom > box.getBoundingClientRect().top + 1)
                .map(text => text.textContent)"""
            )
            == SPOKEN[-1:]
        )


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_accessibility(browser: Browser, server: ServerProcess, talk: Talk, colours: str) -> None:
    findings: dict[str, list[str]] = {}

    def check(name: str, page: Page) -> None:
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
        violations = Axe().run(page).response["violations"]
        grave = [finding for finding in violations if finding["impact"] in ("serious", "critical")]
        findings[name] = [f"{finding['id']}: {node['html']}" for finding in grave for node in finding["nodes"]]

    check("speaker", talk.speaker)
    check("reader", talk.reader)
    for button, name in (
        ("Room", "Caption room"),
        ("Save", "Keep the captions"),
        ("Keyboard shortcuts", "Keyboard shortcuts"),
    ):
        talk.speaker.get_by_role("navigation").get_by_role("button", name=button).click()
        dialog = talk.speaker.get_by_role("dialog", name=name)
        expect(dialog).to_be_visible()
        check(name, talk.speaker)
        dialog.get_by_role("button", name="Done").click()
    with opened(browser, f"{server.url}/live/hall?projector") as page:
        expect(page.locator("#projector-list .text")).to_have_count(2)
        check("projector", page)
    with opened(browser, f"{server.url}/overlay/hall?background=black") as page:
        expect(lines(page)).to_have_count(2)
        check("overlay", page)
    with opened(browser, server.url) as page:
        check("empty", page)
        page.evaluate("document.querySelector('#drop-dialog').showModal()")
        check("drop", page)
    with opened(browser, f"{server.url}/live?name=a b") as page:
        expect(page.get_by_role("alert")).to_be_visible()
        check("which room", page)
    assert {name: found for name, found in findings.items() if found} == {}


def test_nothing_is_sent_during_a_pause(talk: Talk) -> None:
    page = talk.speaker
    page.get_by_role("button", name="Pause").click()
    expect(status(page)).to_have_text("Paused")
    eventually(page, lambda: "flush" in talk.frames)
    told = len(talk.frames)
    assert talk.frames[-2:] == ["audio", "flush"]
    # Sound goes on to come in, enough for several messages.
    time = "contexts[0].currentTime"
    began = page.evaluate(time)
    eventually(page, lambda: page.evaluate(time) > began + 0.5)
    assert talk.frames[told:] == []
    expect(status(talk.reader)).to_have_text("Live")
    page.get_by_role("button", name="Resume").click()
    expect(status(page)).to_have_text("Listening")
    eventually(page, lambda: talk.frames[told:])
    assert set(talk.frames[told:]) == {"audio"}
    page.get_by_role("button", name="Stop").click()
    expect(status(page)).to_have_text("Stopped")
    eventually(page, lambda: talk.frames[-1] == "stop")
    expect(lines(page)).to_have_text(SPOKEN)
    expect(status(talk.reader)).to_have_text("Nobody speaks at the moment")


# --- other talks -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_broken_connection_and_a_server_that_is_restarted(browser: Browser, two_sentences: Path) -> None:
    """The first sentence is cut by the connection, the second by the server's end: both are whole."""
    server = ServerProcess()
    openings: list[str] = []
    cuts, drafted = 0, False

    def connect(socket: WebSocketRoute) -> None:
        upstream = socket.connect_to_server()

        def forward(message: str | bytes) -> None:
            if isinstance(message, str):
                openings.append(json.loads(message)["type"])
            upstream.send(message)

        def forward_back(message: str | bytes) -> None:
            nonlocal cuts, drafted
            event = json.loads(message)
            # A slow connection may leave partials out.
            if cuts < 2 and event.get("utterance") == cuts and event["type"] in ("partial", "speech_ended"):
                cuts += 1
                drafted = event["type"] == "partial"
                if cuts == 1:
                    upstream.close(code=4000)
                else:
                    server.kill()
            socket.send(message)

        socket.on_message(forward)
        upstream.on_message(forward_back)

    server.start()
    try:
        with opened(browser, server.url) as page:
            page.route_web_socket("**/v1/stream*", connect)
            page.reload()
            let_hear(page, two_sentences)
            page.get_by_role("button", name="Start captions").click()
            expect(status(page)).to_contain_text("The server cannot be reached.")
            assert openings == ["start", "resume"]
            expect(lines(page)).to_have_text(SPOKEN[:1])
            if drafted:
                expect(page.locator("#drafts .line")).to_be_visible()
            server.start()
            page.evaluate("window.dispatchEvent(new Event('online'))")  # it need not wait for the next attempt
            expect(status(page)).to_have_text("Listening")
            expect(lines(page)).to_have_text(SPOKEN)
            assert openings == ["start", "resume", "resume", "start"]
            page.get_by_role("button", name="Stop").click()
            expect(status(page)).to_have_text("Stopped")
            assert gaps(page) in ([3], [4])
    finally:
        server.kill()


def dragged(page: Page, file: Path) -> JSHandle:
    """What the page is given when a FLAC file is dragged over it."""
    return page.evaluate_handle(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "sentence.flac", {type: "audio/flac"}));
            return data;
        }""",
        list(file.read_bytes()),
    )


def test_a_file_with_one_channel_inverted_is_heard(browser: Browser, server: ServerProcess, tmp_path: Path) -> None:
    samples, rate = soundfile.read(SAMPLE, dtype="int16", frames=FIRST_SENTENCE)
    file = tmp_path / "sentence.flac"
    soundfile.write(file, np.stack([samples, -samples], axis=1), rate)
    with opened(browser, server.url) as page:
        page.dispatch_event("main", "drop", {"dataTransfer": dragged(page, file)})
        expect(lines(page)).to_have_text(SPOKEN[:1])


def test_a_dropped_file_is_captioned_while_it_plays(browser: Browser, server: ServerProcess, tmp_path: Path) -> None:
    samples, rate = soundfile.read(SAMPLE, dtype="int16", frames=FIRST_SENTENCE)
    file = tmp_path / "sentence.flac"
    soundfile.write(file, samples, rate)
    with opened(browser, server.url) as page:
        data = dragged(page, file)
        page.dispatch_event("main", "dragover", {"dataTransfer": data})
        expect(page.get_by_text("Drop the recording")).to_be_visible()
        drafted = "document.querySelector('#drafts').textContent.includes('one')"
        as_soon_as(page, drafted, "document.querySelector('#main').click()")
        page.dispatch_event("main", "drop", {"dataTransfer": data})
        expect(page.get_by_text("sentence.flac")).to_be_visible()
        expect(status(page)).to_have_text("Paused")
        assert page.evaluate("document.querySelector('#player').paused")
        expect(lines(page)).to_have_count(1)  # what was said before the pause, without any more audio
        expect(lines(page)).to_contain_text("Enter")
        page.get_by_role("button", name="Resume").click()
        expect(status(page)).to_have_text("Stopped")  # at its end
        assert "six" in " ".join(lines(page).all_inner_texts())
        assert page.evaluate("document.querySelector('#player').ended")
        page.set_input_files("#file", {"name": "text.mp3", "mimeType": "audio/mpeg", "buffer": b"no sound"})
        expect(page.get_by_role("alert")).to_contain_text("This browser cannot play text.mp3.")
        expect(status(page)).to_have_text("Stopped")
        expect(page.get_by_text("sentence.flac")).to_be_visible()  # the player keeps what it can play


def test_a_token_is_asked_for_and_remembered(browser: Browser) -> None:
    with serving_in_thread(FakeEngine(), token="s3cret/", viewer_token="see") as url:
        with opened(browser, url) as page:
            dialog = page.get_by_role("dialog", name="This server asks for a token")
            dialog.get_by_role("button", name="Not now").click()
            expect(dialog).to_be_hidden()
            page.get_by_role("button", name="Start captions").click()
            dialog.get_by_label("Token").fill("wrong")
            dialog.get_by_role("button", name="Continue").click()
            expect(page.get_by_text("The server does not know that token.")).to_be_visible()
            dialog.get_by_label("Token").fill("s3cret/")
            page.keyboard.press("Enter")
            expect(dialog).to_be_hidden()
            expect(lines(page)).not_to_have_count(0)
            page.get_by_role("button", name="Stop").click()
            expect(status(page)).to_have_text("Stopped")
            page.reload()
            expect(status(page)).to_have_text("Kept from before")
            expect(dialog).to_be_hidden()
        with opened(browser, f"{url}/live/hall?token=see&x=1") as page:
            expect(status(page)).to_have_text("Waiting for a speaker")
            assert page.url == f"{url}/live/hall?x=1"


def test_a_session_that_ended_during_a_pause_is_followed_by_another(browser: Browser) -> None:
    engine = TimedEngine()
    with (
        serving_in_thread(engine, idle_timeout=0.2) as url,
        opened(browser, f"{url}/?room=hall", timezone_id="Asia/Shanghai") as page,
    ):
        page.clock.set_system_time("2026-02-28T16:30:00Z")
        page.get_by_role("button", name="Start captions").click()
        expect(lines(page)).not_to_have_count(0)
        with page.expect_event("websocket") as going_on:
            page.get_by_role("button", name="Pause").click()
            expect(status(page)).to_have_text("Paused")
            eventually(page, lambda: all(stream.ended for stream in engine.streams))
            before = lines(page).count()
            expect(status(page)).to_have_text("Paused")
            page.get_by_role("button", name="Resume").click()
        assert going_on.value.url.endswith("/v1/stream?room=hall")
        expect(lines(page).nth(before)).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(status(page)).to_have_text("Stopped")
        with page.expect_download() as downloading:
            page.keyboard.press("d")
            page.locator("[data-format=json]").click()
        assert downloading.value.suggested_filename == "hall 2026-03-01 00.30.json"
        utterances = json.loads(downloading.value.path().read_text())["utterances"]
        times = [utterance["start"] for utterance in utterances]
        assert times == sorted(set(times))
        audio = sum(len(stream.audio) for stream in engine.streams)
        # Short ones at pauses and at the end of each session.
        assert audio // UTTERANCE <= len(utterances) <= audio // UTTERANCE + 1 + len(engine.streams)


def test_a_full_server_is_tried_again(browser: Browser) -> None:
    engine = FakeEngine()
    engine.refusal = CapacityError("full")
    with serving_in_thread(engine) as url, opened(browser, url) as page:
        page.get_by_role("button", name="Start captions").click()
        expect(status(page)).to_contain_text("The server has no room for another speaker.")
        engine.refusal = None
        expect(status(page)).to_have_text("Listening")
        expect(lines(page).first).to_be_visible()
        assert page.locator("#lines time").first.inner_text() == "0:00"


def test_a_server_that_went_before_the_first_start(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.evaluate(
            "() => { AudioWorklet.prototype.addModule = () => Promise.reject(new DOMException('', 'AbortError')); }"
        )
        page.get_by_role("button", name="Start captions").click()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
        expect(status(page)).to_have_text("Not started")


def test_sound_that_the_system_stopped_goes_on(browser: Browser) -> None:
    """As after a call on a phone. The keyboard's focus stays on the button whatever it says."""
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.evaluate(KEEP_CONTEXTS)
        page.locator("#main").focus()
        page.keyboard.press("Enter")
        expect(lines(page)).not_to_have_count(0)
        page.evaluate("contexts[0].suspend()")
        expect(lines(page).nth(lines(page).count() + 3)).to_be_attached()
        assert page.evaluate("document.activeElement.id") == "main"
        page.locator("#stop").focus()
        page.keyboard.press("Enter")
        expect(status(page)).to_have_text("Stopped")
        assert page.evaluate("document.activeElement.id") == "main"
        eventually(page, lambda: page.evaluate("contexts[0].state") == "suspended")  # it would use the battery


def test_the_screen_stays_on_for_as_long_as_it_is_wanted(browser: Browser) -> None:
    script = """async () => {
        const { keepScreenOn } = await import("/web/wake-lock.js");
        const locks = [];
        navigator.wakeLock.request = async () => {
            await null;
            const lock = { released: false, async release() { this.released = true; } };
            locks.push(lock);
            return lock;
        };
        const held = async () => {
            await new Promise(resolve => setTimeout(resolve)); // all promises are kept before the next timer
            return [locks.length, locks.filter(lock => !lock.released).length];
        };
        keepScreenOn("one", true);
        keepScreenOn("two", true);
        const both = await held();
        keepScreenOn("one", false);
        const one = await held();
        keepScreenOn("two", false);
        keepScreenOn("two", true);
        keepScreenOn("two", false);
        return [both, one, (await held())[1]];
    }"""
    with serving_in_thread(FakeEngine()) as url, opened(browser, url.replace("127.0.0.1", "localhost")) as page:
        assert page.evaluate(script) == [[1, 1], [1, 1], 0]


def test_a_browser_that_keeps_nothing(browser: Browser) -> None:
    """As with blocked cookies."""
    blocked = """for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, name, { get() { throw new DOMException("", "SecurityError"); } });
    }"""
    with serving_in_thread(FakeEngine()) as url, opened(browser, "about:blank") as page:
        page.add_init_script(blocked)
        page.goto(url)
        page.get_by_role("button", name="Colours").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="Start captions").click()
        expect(status(page)).to_have_text("Listening")


def test_dialogs_are_closed_by_clicks_beside_them_only(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.keyboard.press("r")
        dialog = page.get_by_role("dialog", name="Caption room")
        box = dialog.bounding_box()
        assert box is not None
        left, top = box["x"], box["y"]
        page.mouse.click(left + 8, top + 8)
        expect(dialog).to_be_visible()
        page.get_by_label("Name of the room").fill("main hall")
        expect(page.locator("#room-link")).to_have_text(f"{url}/live/main-hall")
        expect(page.locator("#status-room")).to_have_text("room main-hall")
        field = page.locator("#room").bounding_box()
        assert field is not None
        page.mouse.move(field["x"] + 90, field["y"] + 20)
        page.mouse.down()
        page.mouse.move(left - 50, top)
        page.mouse.up()
        expect(dialog).to_be_visible()
        page.mouse.click(left - 50, top)
        expect(dialog).to_be_hidden()


def test_a_lost_connection_is_told_once_and_on_the_projector_too(browser: Browser) -> None:
    with opened(browser, "about:blank") as page:
        with serving_in_thread(FakeEngine()) as url:
            page.goto(url + "?projector")
            page.keyboard.press(" ")  # keys of the page work
            expect(page.locator("#projector-list .text")).not_to_have_count(0)
            told, when = Shown(page, "#status-text"), Shown(page, "#status-when")
        expect(page.locator("#projector-status")).to_have_text("The server cannot be reached.")
        # After several attempts, which wait longer and longer.
        eventually(page, lambda: any("Trying again in 3 s" in words for words in when.texts))
        assert told.texts.count("The server cannot be reached.") == 1, told.texts
        expect(page.locator("#projector.idle")).to_be_attached()
        page.mouse.move(5, 5)
        page.keyboard.press("f")
        expect(page.get_by_role("dialog", name="Projector view")).to_be_hidden()


def test_an_address_that_is_not_secure(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url.replace("127.0.0.1", NOT_SECURE)) as page:
        expect(page.get_by_role("alert")).to_contain_text("only to pages at https:// or localhost")
        page.get_by_role("button", name="Start captions").click()
        expect(status(page)).to_have_text("Not started")


def test_a_room_of_a_server_that_was_restarted_goes_on_after_the_old_one(browser: Browser) -> None:
    script = """async () => {
        const { Room } = await import("/web/room.js");
        const { Transcript } = await import("/web/transcript.js");
        const sockets = [], transcript = new Transcript();
        const open = () => { sockets.push({ close() {} }); return sockets.at(-1); };
        const room = new Room(open, async () => "ready", transcript);
        const tell = message => sockets.at(-1).onmessage({ data: JSON.stringify(message) });
        const line = (line, text) => ({ line, speaker: "", start: line + 1, end: line + 2, text });
        const snapshot = (id, ...lines) => tell({ type: "room", room: "x", live: true, lines, id, earlier: 0 });
        const broken = async () => { sockets.at(-1).onclose({ code: 1006, reason: "" }); await 0; room.retry(); };

        snapshot("a", line(0, "one"), line(1, "two"));
        tell({ type: "partial", line: 2, speaker: "", start: 3, end: 4, stable: "thr", draft: "ee" });
        await broken();
        snapshot("a", line(0, "one"), line(1, "two"), line(2, "three"));
        tell({ type: "final", ...line(4, "five") });
        tell({ type: "final", ...line(3, "four") });
        tell({ type: "partial", line: 5, speaker: "", start: 6, end: 7, stable: "", draft: "noise" });
        tell({ type: "final", ...line(5, "") });
        await broken();
        snapshot("b", line(0, "one"));
        const texts = transcript.lines.map(({ text }) => text);
        return [sockets.length, texts, transcript.lines.at(-1).start, transcript.drafts];
    }"""
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        result = page.evaluate(script)
    assert result == [3, ["one", "two", "three", "four", "five", "one"], 7, []]


def test_scrolling_follows_the_newest_line_until_the_reader_scrolls_up(browser: Browser) -> None:
    below = "[...document.querySelectorAll('#scroller')].map(e => e.scrollHeight - e.clientHeight - e.scrollTop)[0]"
    with serving_in_thread(FakeEngine()) as url, opened(browser, url, viewport={"width": 900, "height": 400}) as page:
        page.get_by_role("button", name="Start captions").click()
        expect(lines(page).nth(20)).to_be_attached()
        jump = page.get_by_role("button", name="Jump to newest")
        expect(jump).to_be_hidden()
        page.locator("#scroller").hover()
        page.mouse.wheel(0, -300)
        expect(jump).to_be_visible()
        distance = page.evaluate(below)
        expect(lines(page).nth(lines(page).count() + 5)).to_be_attached()
        assert page.evaluate(below) > distance > 0
        page.keyboard.press("End")
        expect(jump).to_be_hidden()
        expect(lines(page).nth(lines(page).count() + 15)).to_be_attached()  # more than there is room for
        expect(lines(page).last).to_be_in_viewport()


def test_long_sentences_become_several_cues(browser: Browser, server: ServerProcess) -> None:
    text = (
        "When the first ships came back in the spring, nobody in the village would believe what the sailors told, "
        "and so they went on telling it until there was not a child that did not know the story by heart."
    )
    words = [
        {"text": word, "start": 0.35 * index, "end": 0.35 * index + 0.3, "confidence": 1}
        for index, word in enumerate(text.split())
    ]
    line = {"id": "1", "speaker": "", "start": 0, "end": 16, "text": text, "words": words}
    with opened(browser, server.url) as page:
        script = "async ([lines, form]) => (await import('/web/subtitles.js')).render(lines, form)"
        vtt = page.evaluate(script, [[line], "vtt"])
    captions = webvtt.from_string(vtt).captions
    assert len(captions) >= 3
    assert " ".join(caption.text for caption in captions).replace("\n", " ") == text
    for caption in captions:
        assert len(caption.lines) <= 2
        assert all(len(shown) <= 42 for shown in caption.lines)
        assert 0 < caption.end_in_seconds - caption.start_in_seconds <= 7
    assert captions[0].text.replace("\n", " ").endswith("spring,")
    assert all(one.end_in_seconds <= other.start_in_seconds for one, other in pairwise(captions))


@pytest.mark.parametrize(
    ("name", "words"), [("NotAllowedError", "is not allowed"), ("NotFoundError", "No microphone was found")]
)
def test_without_a_microphone(browser: Browser, server: ServerProcess, name: str, words: str) -> None:
    with opened(browser, server.url) as page:
        page.evaluate(
            "name => navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', name))", name
        )
        page.get_by_role("button", name="Start captions").click()
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(status(page)).to_have_text("Not started")


def test_a_phone_has_room_for_everything(browser: Browser, server: ServerProcess) -> None:
    with opened(browser, server.url, viewport={"width": 360, "height": 640}, has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        for control in page.locator("button:visible, select:visible").all():
            box = control.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 44, control.inner_text()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
