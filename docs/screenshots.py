"""Make the pictures of the web pages in docs/images.

    ./run python docs/screenshots.py

The pages are the server's. What they show is scripted below, so the pictures do not change by themselves. Needs
Chromium (Debian: `apt-get install chromium fonts-inter`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

from parastream.server.http import pages
from parastream.server.wire.messages import (
    Ear,
    Final,
    Partial,
    Ready,
    RoomLine,
    RoomMessage,
    RoomPartial,
    RoomState,
    ServerMessage,
    encode,
)
from playwright.sync_api import Browser, Page, WebSocketRoute, sync_playwright

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]

LINES = [
    (2.1, 7.4, "Good morning, everybody, and welcome to the second day."),
    (8.0, 15.9, "Yesterday we talked about what the harbour was built for; today we look at what has become of it."),
    (17.2, 21.8, "The first picture was taken from the lighthouse in 1911."),
    (22.4, 30.6, "You can see the old customs house on the left, and behind it the rails that led down to the water."),
    (31.9, 36.0, "None of that is left, except for one thing."),
]
STABLE, DRAFT = "The crane at the end of the pier was saved by the people", " who had worked there"
READY = Ready(
    session="",
    protocol="",
    model="asr-small-en",
    format="s16le",
    rate=16000,
    channels=1,
    channel=0,
    acknowledged=0,
    heartbeat=20,
    resume_window=0,
    languages=("en",),
    ears=(
        Ear("asr-small-en", partials=True, finals=True, languages=("en",)),
        Ear("whisper-tiny-en", partials=False, finals=True, languages=("en",)),
    ),
)
STEADY = ".meter span { transform: scaleX(0.6) !important; transition: none !important }"
"""Fixes the level of the microphone, which would differ each time."""
PICTURE = "linear-gradient(#9dbdd0 62%, #d8cbaa 62% 66%, #5c7a80 66%)"
"""The background that the overlay is laid over."""


@dataclass(frozen=True)
class Shot:
    """One picture."""

    name: str
    path: str
    width: int
    height: int
    colours: Literal["light", "dark"] = "light"


SHOTS = [
    Shot("speaker-light", "/", 1120, 700),
    Shot("speaker-dark", "/", 1120, 700, "dark"),
    Shot("room-phone", "/live/main-hall", 390, 780, "dark"),
    Shot("projector", "/live/main-hall?projector", 1280, 720, "dark"),
    Shot("overlay", "/overlay/main-hall?background=0009", 1280, 400),
]


def main() -> None:
    """Make all pictures."""
    with sync_playwright() as playwright, ThreadingHTTPServer(("localhost", 0), Pages) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for shot in SHOTS:
            page = open_page(browser, f"http://localhost:{server.server_port}", shot)
            page.screenshot(path=IMAGES / f"{shot.name}.png", scale="css")
            page.context.close()
        browser.close()


def open_page(browser: Browser, origin: str, shot: Shot) -> Page:
    """Open a page, and wait until all of the script's captions are on it."""
    context = browser.new_context(
        viewport={"width": shot.width, "height": shot.height},
        color_scheme=shot.colours,
        permissions=["microphone"],
    )
    context.route_web_socket("**/v1/stream", speak)
    context.route_web_socket("**/v1/rooms/*", show_room)
    page = context.new_page()
    page.goto(origin + shot.path)
    if shot.path.partition("?")[0] == "/":
        page.locator("#main").click()
        page.mouse.move(0, 0)
    if "projector" in shot.path:
        page.mouse.move(0, 0)
        page.locator("#projector.idle").wait_for()
    if "overlay" in shot.path:
        page.evaluate("background => document.body.style.background = background", PICTURE)
    page.evaluate(
        """rules => {
            const sheet = new CSSStyleSheet();
            sheet.replaceSync(rules);
            document.adoptedStyleSheets = [sheet];
        }""",
        STEADY,
    )
    page.locator(".draft:visible").last.wait_for()
    return page


class Pages(BaseHTTPRequestHandler):
    """The part of the server that answers HTTP."""

    def do_GET(self) -> None:
        """Answer with a page, or with something that satisfies one."""
        page = pages.page(self.path)
        body = b"{}" if page is None else page.body
        self.send_response(200)
        for name, value in ({} if page is None else page.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def speak(socket: WebSocketRoute) -> None:
    """Play the server in a session: send the script as soon as there is sound."""
    told = False

    def on_message(message: str | bytes) -> None:
        nonlocal told
        if isinstance(message, str):
            send(socket, READY)
        elif not told:
            told = True
            for number, (start, end, text) in enumerate(LINES):
                send(socket, Final(number, start, end, text, words=(), confidence=1.0))
            send(socket, Partial(len(LINES), 37.1, 40.0, STABLE, DRAFT, words=()))

    socket.on_message(on_message)


def show_room(socket: WebSocketRoute) -> None:
    """Play the server in a room."""
    lines = tuple(RoomLine(number, "", *line) for number, line in enumerate(LINES))
    send(socket, RoomState("main-hall", live=True, lines=lines, id="", earlier=0))
    send(socket, RoomPartial(len(LINES), "", 37.1, 40.0, STABLE, DRAFT))


def send(socket: WebSocketRoute, message: ServerMessage | RoomMessage) -> None:
    """Send a message as JSON."""
    socket.send(encode(message).decode())


if __name__ == "__main__":
    main()
