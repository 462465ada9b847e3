"""A real Chromium whose microphone hears a recording, and servers for it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from parastream.streaming import Engine
from playwright.sync_api import Browser, BrowserContext, JSHandle, Locator, Page, expect, sync_playwright

from ..server.fakes import FakeEngine, serving
from ..waiting import LIMIT, wait_until

NOT_SECURE = "captions.test"
"""A name of this machine that browsers do not take for it."""
FLAGS = [
    "--no-sandbox",  # which root cannot have
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    f"--host-resolver-rules=MAP {NOT_SECURE} 127.0.0.1",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
FIRST_SENTENCE, TWO_SENTENCES = 4 * 16000, 8 * 16000 + 8000
"""Samples of the recording, with some silence after the speech."""
LEAD = 2 * 16000
"""Samples of silence before what the microphone hears."""
HANGS = 60_000
"""Milliseconds after which a page is taken to hang; each wait is for the event itself."""
expect.set_options(timeout=HANGS)


def chromium() -> str:
    """The path of the browser. Without one the test is skipped, but fails where the environment says `CI`."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    reason = "there is no Chromium (Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running_browser(recording: Path) -> Iterator[Browser]:
    """Whenever a page opens the microphone, it hears `recording` (WAV) from the start, and then silence."""
    path = chromium()
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={recording}%noloop"]
        # A locale that is not there makes it give up names of files in other scripts.
        environment: dict[str, str | float | bool] = {**os.environ, "LC_ALL": "C.UTF-8"}
        browser = playwright.chromium.launch(executable_path=path, args=flags, env=environment)
        yield browser
        browser.close()


def let_hear(page: Page, recording: Path) -> None:
    """Have the page's microphone give a recording (WAV) from the start whenever it is opened, and then silence.

    The browser's own goes by the real clock, and drops what a busy page does not take at once. This one goes by the
    clock of the page's sound, so that the page hears every word however late.
    """
    page.evaluate(
        """async bytes => {
            const decoder = new OfflineAudioContext(1, 1, 16000);
            const buffer = await decoder.decodeAudioData(new Uint8Array(bytes).buffer);
            AudioContext.prototype.createMediaStreamSource = function () {
                const heard = new GainNode(this), speech = new AudioBufferSourceNode(this, { buffer });
                const silence = new ConstantSourceNode(this, { offset: 0 });
                for (const source of [speech, silence]) {
                    source.connect(heard);
                    source.start();
                }
                return heard;
            };
        }""",
        list(recording.read_bytes()),
    )


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page in a context of its own, in which nothing may go wrong unseen."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(HANGS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert errors == []


def lines(page: Page) -> Locator:
    """The finished sentences."""
    return page.locator("#lines .text")


def status(page: Page) -> Locator:
    """The words of the line that says how it goes."""
    return page.locator("#status-text")


class Shown:
    """Every text that an element of a page has from now on, also one that passes between two looks of a busy test."""

    def __init__(self, page: Page, selector: str) -> None:
        self._texts: JSHandle = page.locator(selector).evaluate_handle(
            """element => {
                const texts = [element.textContent];
                const note = () => element.textContent === texts.at(-1) || texts.push(element.textContent);
                new MutationObserver(note).observe(element, { childList: true, characterData: true, subtree: true });
                return texts;
            }"""
        )

    @property
    def texts(self) -> list[str]:
        """One after the other, the first of which was there before."""
        found: list[str] = self._texts.json_value()
        return found


def wait_for_texts(page: Page, shown: Shown, *texts: str) -> None:
    """Wait until all of these have been shown in this order, and the last one still is."""

    def came() -> bool:
        *before, last = shown.texts
        remaining = iter(before)
        return last == texts[-1] and all(text in remaining for text in texts[:-1])

    eventually(page, came)


def as_soon_as(page: Page, condition: str, action: str) -> None:
    """Have the page itself do something once, at the first change of it or of its player's time that makes it due.

    A test that looks for a passing state and then acts may come too late for it on a busy machine.
    """
    page.evaluate(
        f"""() => {{
            const player = document.querySelector("#player");
            const look = () => {{
                if (!({condition})) return;
                observer.disconnect();
                player.removeEventListener("timeupdate", look);
                {action};
            }};
            const observer = new MutationObserver(look);
            observer.observe(document.body, {{ childList: true, subtree: true }});
            player.addEventListener("timeupdate", look);
        }}"""
    )


def eventually(page: Page, condition: Callable[[], object]) -> None:
    """Wait until `condition` is true while the browser's events arrive.

    `page.wait_for_function` is no choice: it compiles its text in the page each time it looks, which the policy of the
    pages forbids; only the first look is exempt.
    """
    wait_until(condition, pause=lambda seconds: page.wait_for_timeout(1000 * seconds))


class ServerProcess:
    """`parastream serve`, which can be killed and started again at the same address."""

    def __init__(self) -> None:
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Of its pages, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it is ready."""
        command = [sys.executable, "-m", "parastream.client.cli", "serve", "--port", self._port]
        command += ["--final-model", "asr-small-en"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        lines: list[str] = []
        for line in self._process.stderr:
            lines.append(line)
            if found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line):
                self._port = found[1]
            if line.startswith("ready"):
                return
        raise AssertionError(f"the server ended: {''.join(lines)}")

    def kill(self) -> None:
        """End it without a word to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def serving_in_thread(engine: FakeEngine | Engine, **settings: Any) -> Iterator[str]:
    """The address of a server's pages."""
    started = threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with serving(engine, **settings) as server:
            urls.append(f"http://127.0.0.1:{server.port}")
            loops.append((asyncio.get_running_loop(), asyncio.current_task()))
            started.set()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.Event().wait()

    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None] | None]] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(LIMIT), "the server did not start"
    try:
        yield urls[0]
    finally:
        loop, task = loops[0]
        assert task is not None
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
