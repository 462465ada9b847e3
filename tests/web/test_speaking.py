"""The speaker's page in a real Chromium: files, what is kept, small windows, what listens."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, JSHandle, Page, expect

from ..conftest import SAMPLE
from ..server.fakes import FakeEngine, TimedEngine
from .browsing import (
    FIRST_SENTENCE,
    Shown,
    as_soon_as,
    eventually,
    lines,
    opened,
    serving_in_thread,
    status,
    wait_for_texts,
)
from .test_reading import speaking

pytestmark = pytest.mark.browser

LOCKS = "navigator.locks.query().then(({ held }) => held.length)"
"""How many transcripts pages have taken hold of."""
SECONDS = FIRST_SENTENCE / 16000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of speech in a file."""
    file = tmp_path_factory.mktemp("speaking") / "sentence.flac"
    soundfile.write(file, *soundfile.read(SAMPLE, dtype="int16", frames=FIRST_SENTENCE))
    return file


def transfer(page: Page, name: str, kind: str, content: bytes) -> JSHandle:
    """What is dragged: a file."""
    return page.evaluate_handle(
        """([name, type, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return data;
        }""",
        [name, kind, list(content)],
    )


def drop(page: Page, name: str, kind: str, content: bytes) -> None:
    page.dispatch_event("main", "drop", {"dataTransfer": transfer(page, name, kind, content)})


def times(page: Page, tmp_path: Path) -> list[tuple[float, float]]:
    """When the lines began and ended."""
    page.keyboard.press("d")
    with page.expect_download() as downloading:
        page.locator("[data-format=json]").click()
    downloading.value.save_as(tmp_path / "transcript.json")
    page.get_by_role("button", name="Done").click()
    utterances = json.loads((tmp_path / "transcript.json").read_text())["utterances"]
    return [(utterance["start"], utterance["end"]) for utterance in utterances]


def rate(page: Page) -> float:
    found = page.evaluate("new AudioContext().sampleRate")
    assert isinstance(found, int | float)
    return found


def heard(engine: FakeEngine, page: Page) -> float:
    """Seconds of audio that the server was sent."""
    return sum(len(stream.audio) for stream in engine.streams) / 2 / rate(page)


def player(page: Page, script: str) -> Any:
    return page.locator("#player").evaluate(f"player => {script}")


# --- files and a live microphone -------------------------------------------------------------------------


@pytest.mark.parametrize("paused", [False, True])
def test_a_dropped_file_asks_before_it_takes_the_place_of_the_microphone(
    browser: Browser, recording: Path, paused: bool
) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, opened(browser, url) as page:
        page.get_by_role("button", name="Start captions").click()
        expect(lines(page)).not_to_have_count(0)
        if paused:
            page.get_by_role("button", name="Pause").click()
        words = "Paused" if paused else "Listening"
        drop(page, "sentence.flac", "audio/flac", recording.read_bytes())
        dialog = page.get_by_role("dialog", name="The microphone is live")
        expect(dialog).to_contain_text("sentence.flac")
        expect(status(page)).to_have_text(words)
        dialog.get_by_role("button", name="Keep the microphone").click()
        expect(dialog).to_be_hidden()
        expect(status(page)).to_have_text(words)
        expect(page.locator("#player-box")).to_be_hidden()
        if not paused:
            expect(lines(page).nth(lines(page).count() + 3)).to_be_attached()
        page.set_input_files("#file", recording)  # chosen by the button
        told = Shown(page, "#status-text")
        dialog.get_by_role("button", name="Caption the file").click()
        wait_for_texts(page, told, "Captioning the file", "Stopped")
        assert len(engine.streams) == 1


@pytest.mark.parametrize("kind", ["text/plain", "audio/mpeg", ""])
def test_a_file_that_cannot_be_played_leaves_the_microphone_alone(browser: Browser, kind: str) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.get_by_role("button", name="Start captions").click()
        expect(lines(page)).not_to_have_count(0)
        told = Shown(page, "#status-text")
        drop(page, "notes.txt", kind, b"no sound")
        expect(page.get_by_role("alert")).to_contain_text("This browser cannot play notes.txt.")
        expect(lines(page).nth(lines(page).count() + 3)).to_be_attached()
        assert told.texts == ["Listening"]


def test_a_file_that_the_browser_does_not_play_by_itself_says_what_to_press(browser: Browser, recording: Path) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, opened(browser, url) as page:
        page.evaluate(
            """() => {
                const { play } = HTMLMediaElement.prototype;
                HTMLMediaElement.prototype.play = function () {
                    HTMLMediaElement.prototype.play = play;
                    return Promise.reject(new DOMException("", "NotAllowedError"));
                };
            }"""
        )
        page.set_input_files("#file", recording)
        expect(status(page)).to_have_text("Press to begin")
        assert engine.streams == []  # nobody's place is taken before there is sound
        told = Shown(page, "#status-text")
        page.get_by_role("button", name="Begin").click()
        wait_for_texts(page, told, "Captioning the file", "Stopped")
        expect(lines(page)).not_to_have_count(0)


# --- the player --------------------------------------------------------------------------------------------


def test_what_is_played_again_is_not_captioned_again(browser: Browser, recording: Path, tmp_path: Path) -> None:
    engine = TimedEngine()
    with serving_in_thread(engine) as url, opened(browser, url) as page:
        as_soon_as(page, "player.currentTime > 1.5", "player.currentTime = 0.2")
        page.set_input_files("#file", recording)
        expect(status(page)).to_have_text("Stopped")
        assert heard(engine, page) < SECONDS + 0.5
        found = times(page, tmp_path)
        assert all(one[1] <= other[0] + 0.01 for one, other in pairwise(found))
        assert found[-1][1] <= SECONDS + 0.5
        # All of it once more: nothing is sent.
        count, sessions = len(found), len(engine.streams)
        told = Shown(page, "#status-text")
        player(page, "player.play()")
        wait_for_texts(page, told, "Captioning the file", "Stopped")
        assert (lines(page).count(), len(engine.streams)) == (count, sessions)


def test_what_was_skipped_is_captioned_when_somebody_goes_back(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "sentences.flac"
    soundfile.write(file, *soundfile.read(SAMPLE, dtype="int16", frames=8 * 16000))
    engine = TimedEngine()
    with serving_in_thread(engine) as url, opened(browser, url) as page:
        as_soon_as(page, "player.currentTime > 0.5", "player.currentTime = 7")
        page.set_input_files("#file", file)
        expect(status(page)).to_have_text("Stopped")
        skipped = times(page, tmp_path)
        assert not [start for start, _ in skipped if 5 < start < 6.9]  # a busy page may skip later than it should
        assert [start for start, _ in skipped if start >= 6.9]
        before = heard(engine, page)
        told = Shown(page, "#status-text")
        player(page, "{ player.currentTime = 5.5; void player.play(); }")
        wait_for_texts(page, told, "Captioning the file", "Stopped")
        found = times(page, tmp_path)
        assert [start for start, _ in found if 5.5 < start < 6.9]
        assert [(one, other) for one, other in pairwise(found) if one[1] > other[0] + 0.15] == []
        assert heard(engine, page) - before < 1.5 + 0.7  # but for what it has heard before


def test_pauses_lose_nothing_and_double_nothing(browser: Browser, recording: Path, tmp_path: Path) -> None:
    engine = TimedEngine()
    with serving_in_thread(engine) as url, opened(browser, url) as page:

        def pause_at(second: float) -> None:
            as_soon_as(page, f"player.currentTime > {second}", "document.querySelector('#main').click()")

        told = Shown(page, "#status-text")
        pause_at(0.7)
        page.set_input_files("#file", recording)
        for second in (1.4, 2.1, 2.8, SECONDS + 1):
            wait_for_texts(page, told, "Captioning the file", "Paused")
            told = Shown(page, "#status-text")
            pause_at(second)
            page.get_by_role("button", name="Resume").click()
        wait_for_texts(page, told, "Captioning the file", "Stopped")
        assert SECONDS - 0.5 < heard(engine, page) < SECONDS + 1
        found = times(page, tmp_path)
        # A pause takes effect a moment later in the sound than in the player.
        assert all(one[0] < other[0] + 0.5 for one, other in pairwise(found))
        assert found[-1][1] < SECONDS + 0.5


def test_a_file_is_captioned_at_its_normal_speed(browser: Browser, recording: Path) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        told = Shown(page, "#status-text")
        page.set_input_files("#file", recording)
        eventually(page, lambda: "Captioning the file" in told.texts)
        player(page, "void (player.playbackRate = 2)")
        expect(page.get_by_role("alert")).to_contain_text("normal speed")
        assert player(page, "player.playbackRate") == 1


# --- a server without a place ------------------------------------------------------------------------------


def test_a_server_that_is_full_says_so_and_listens_as_soon_as_it_has_a_place(browser: Browser) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine, max_sessions=1) as url, opened(browser, url) as page:
        with speaking(engine, url, "hall"):
            page.get_by_role("button", name="Start captions").click()
            expect(status(page)).to_have_text("The server is full.")
        expect(status(page)).to_have_text("Listening")
        expect(lines(page).first).to_be_attached()


# --- the sound of a tab ------------------------------------------------------------------------------------

SHARING = """kind => {
    navigator.mediaDevices.getDisplayMedia = async () => {
        if (kind === "refused") throw new DOMException("", "NotAllowedError");
        const context = new AudioContext(), tone = new OscillatorNode(context);
        const shared = context.createMediaStreamDestination();
        tone.connect(shared);
        tone.start();
        window.shared = kind === "silent" ? new MediaStream() : shared.stream;
        return window.shared;
    };
}"""
"""In place of the browser's dialog, which no test can answer."""


def test_the_sound_of_a_tab_is_captioned(browser: Browser) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, opened(browser, url) as page:
        page.evaluate(SHARING, "sound")
        page.get_by_label("Microphone", exact=True).select_option("Sound of a tab…")
        page.get_by_role("button", name="Start captions").click()
        expect(lines(page).nth(3)).to_be_attached()
        page.evaluate("() => shared.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        expect(page.get_by_role("alert")).to_contain_text("The tab is not shared any more.")
        expect(status(page)).to_have_text("Stopped")
        assert page.evaluate("shared.getAudioTracks()[0].readyState") == "ended"
        page.reload()
        expect(page.get_by_label("Microphone", exact=True)).to_have_value("tab")  # is remembered


@pytest.mark.parametrize(
    ("kind", "told"), [("refused", "Nothing was shared."), ("silent", "What was shared has no sound.")]
)
def test_a_tab_that_gives_no_sound(browser: Browser, kind: str, told: str) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.evaluate(SHARING, kind)
        page.get_by_label("Microphone", exact=True).select_option("Sound of a tab…")
        page.get_by_role("button", name="Start captions").click()
        expect(page.get_by_role("alert")).to_contain_text(told)
        expect(status(page)).to_have_text("Not started")


def test_a_browser_that_shares_no_sound_is_not_asked_for_that_of_a_tab(browser: Browser) -> None:
    """Firefox and Safari share pictures only."""
    with serving_in_thread(FakeEngine()) as url, opened(browser, "about:blank") as page:
        page.add_init_script("MediaDevices.prototype.getSupportedConstraints = () => ({ autoGainControl: true })")
        page.goto(url)
        choices = page.get_by_label("Microphone", exact=True).locator("option")
        expect(choices).not_to_have_count(1)  # those that there are have been listed
        assert all("tab" not in text for text in choices.all_inner_texts())


def test_the_javascript_client_decodes_files(browser: Browser, tmp_path: Path) -> None:
    left, right = np.sin(np.arange(4800) / 20), np.zeros(4800)
    soundfile.write(tmp_path / "stereo.flac", np.stack([left, right], 1), 48000)
    script = """async bytes => {
        const { decodeFile } = await import("/web/client/file.js");
        return Array.from(await decodeFile(new Blob([new Uint8Array(bytes)]), 48000));
    }"""
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        decoded = page.evaluate(script, list((tmp_path / "stereo.flac").read_bytes()))
    assert np.allclose(decoded, left / 2 * 32767, atol=2)


# --- what is kept ------------------------------------------------------------------------------------------


def speak(page: Page) -> list[str]:
    """Caption the microphone for some lines, and return them."""
    page.get_by_role("button", name="Start captions").click()
    expect(lines(page).nth(lines(page).count() + 2)).to_be_attached()
    page.get_by_role("button", name="Stop").click()
    expect(status(page)).to_have_text("Stopped")
    return lines(page).all_inner_texts()


def test_a_reload_keeps_the_transcript(browser: Browser, tmp_path: Path) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        said = speak(page)
        page.reload()
        expect(status(page)).to_have_text("Kept from before")
        assert lines(page).all_inner_texts() == said
        assert speak(page)[: len(said)] == said  # and it goes on behind it
        found = times(page, tmp_path)
        assert found == sorted(found)
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Clear").click()
        expect(lines(page)).to_have_count(0)
        page.reload()
        expect(status(page)).to_have_text("Not started")
        eventually(page, lambda: page.evaluate(LOCKS) == 1)
        expect(lines(page)).to_have_count(0)


def test_a_page_that_ended_without_a_word_comes_back_in_another_tab(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.get_by_role("button", name="Start captions").click()
        expect(lines(page).nth(3)).to_be_attached()
        kept = """async () => {
            const { result } = await new Promise(done => {
                const request = indexedDB.open("parastream");
                request.onsuccess = () => done(request);
            });
            const request = result.transaction("lines").objectStore("lines").count();
            await new Promise(done => (request.onsuccess = done));
            return request.result;
        }"""
        eventually(page, lambda: page.evaluate(kept) >= 4)
        first = lines(page).all_inner_texts()[:4]
        context = page.context
        other = context.new_page()
        other.goto(f"{url}/live")
        page.close(run_before_unload=False)
        eventually(other, lambda: other.evaluate(LOCKS) == 0)
        other.goto(url)
        expect(status(other)).to_have_text("Kept from before")
        assert lines(other).all_inner_texts()[:4] == first


def test_drafts_that_nobody_will_finish_come_back_as_lines(browser: Browser) -> None:
    script = """async () => {
        const { Kept } = await import("/web/kept.js");
        const { Transcript } = await import("/web/transcript.js");
        const transcript = new Transcript(), kept = new Kept(transcript);
        await kept.open();
        transcript.add({ id: "a.0", speaker: "", start: 0, end: 1, text: "One.", words: [] });
        transcript.setDraft({ id: "a.1", speaker: "", start: 2, stable: "and", draft: " two" });
        return kept.works;
    }"""
    with serving_in_thread(FakeEngine()) as url, opened(browser, f"{url}/live") as page:
        assert page.evaluate(script)
        talks = """async () => {
            const request = indexedDB.open("parastream");
            await new Promise(done => (request.onsuccess = done));
            const all = request.result.transaction("talks").objectStore("talks").getAll();
            await new Promise(done => (all.onsuccess = done));
            return all.result.flatMap(({ drafts }) => drafts.map(({ id }) => id));
        }"""
        eventually(page, lambda: page.evaluate(talks) == ["a.1"])
        for _ in range(2):
            page.goto(url)
            expect(lines(page)).to_have_text(["One.", "and two"])


def test_each_tab_keeps_a_transcript_of_its_own(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as one:
        said = speak(one)
        other = one.context.new_page()
        other.goto(url)
        eventually(other, lambda: other.evaluate(LOCKS) == 2)
        expect(lines(other)).to_have_count(0)
        one.close()
        eventually(other, lambda: other.evaluate(LOCKS) == 1)
        other.reload()  # where nothing was said
        expect(lines(other)).to_have_text(said)


def test_a_browser_that_keeps_nothing_warns_before_the_page_is_left(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, "about:blank") as page:
        page.add_init_script("Object.defineProperty(window, 'indexedDB', { get() { throw new Error('no'); } })")
        page.goto(url)
        speak(page)
        asked: list[str] = []

        def answer(dialog: Any) -> None:
            asked.append(dialog.type)
            dialog.accept()

        page.on("dialog", answer)
        page.reload()
        assert asked == ["beforeunload"]
        expect(status(page)).to_have_text("Not started")


# --- the rest ------------------------------------------------------------------------------------------------


def test_the_page_says_what_listens(browser: Browser) -> None:
    engine = FakeEngine()
    with serving_in_thread(engine) as url, opened(browser, url) as page:
        shown = page.locator("#status-model")
        expect(shown).to_have_text("English, model scripted")
        expect(page.get_by_text("The model scripted listens, for English.")).to_be_visible()
        page.get_by_text("More about what listens").click()
        told = "scripted: text while you speak, finished sentences; English"
        expect(page.get_by_role("listitem")).to_have_text([told])
        engine.languages = ("zh", "en")
        page.get_by_role("button", name="Start captions").click()
        expect(shown).to_have_text("Chinese, English, model scripted")  # in `ready`, too


@pytest.mark.parametrize(("width", "height"), [(320, 256), (320, 180), (360, 400)])
def test_captions_fill_a_window_at_400_percent(browser: Browser, width: int, height: int) -> None:
    visible = """() => {
        const { top, bottom } = document.querySelector("#scroller").getBoundingClientRect();
        return Math.min(bottom, innerHeight) - Math.max(top, 0);
    }"""
    with (
        serving_in_thread(FakeEngine()) as url,
        opened(browser, url, viewport={"width": width, "height": height}) as page,
    ):
        page.get_by_role("button", name="Start captions").click()
        expect(lines(page).nth(5)).to_be_attached()
        assert page.evaluate(visible) > 0.9 * (height - 16)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.get_by_role("button", name="Stop").click()  # which can be scrolled to
        expect(status(page)).to_have_text("Stopped")


def test_a_browser_that_has_nothing_to_play_sound_on_says_so(browser: Browser) -> None:
    """As Firefox does it: the clock of the sound stands still."""
    with serving_in_thread(FakeEngine()) as url, opened(browser, url) as page:
        page.evaluate("() => { AudioContext.prototype.resume = () => new Promise(() => {}); }")
        page.evaluate(
            """() => {
                const Original = AudioContext;
                window.AudioContext = class extends Original {
                    constructor(...options) { super(...options); void this.suspend(); }
                };
            }"""
        )
        page.get_by_role("button", name="Start captions").click()
        expect(page.get_by_role("alert")).to_contain_text("it finds nothing to play sound on")


def test_a_browser_that_never_loads_the_worklet_says_why(browser: Browser) -> None:
    with serving_in_thread(FakeEngine()) as url, opened(browser, "about:blank") as page:
        page.clock.install()
        page.goto(url)
        page.evaluate("() => { AudioWorklet.prototype.addModule = () => new Promise(() => {}); }")
        page.get_by_role("button", name="Start captions").click()
        page.clock.run_for(10_000)
        expect(page.get_by_role("alert")).to_contain_text("it finds nothing to play sound on")
        expect(status(page)).to_have_text("Not started")
