"""Make the moving picture of the README, docs/images/captions.gif.

    ./run python docs/moving_picture.py

Nothing in it is staged: `parastream serve` runs with the embedded model, and the page in Chromium hears the recording
of `parastream demo` through a fake microphone. Needs Chromium (Debian: `apt-get install chromium fonts-inter`).
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import soundfile
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect, sync_playwright

DESTINATION = Path(__file__).parent / "images" / "captions.gif"
RECORDING = Path(__file__).parents[1] / "client" / "assets" / "sample.flac"
SENTENCES, SECONDS = 2, 8.5
"""How much of the recording the page hears: what comes of the third sentence depends on the browser's resampling."""
WIDTH, HEIGHT, SCALE = 640, 280, 2
"""The window in CSS pixels, and how many pixels of the picture each of them becomes."""
SHORTEST = 0.1
"""Seconds that each frame is shown for at least: the meter of the microphone would give 60 a second."""
HELD = 3.0
"""Seconds that the last frame is shown for."""
COLOURS = 64
LARGEST = 1_500_000
"""Bytes."""


@dataclass(frozen=True)
class Frame:
    """What the page looked like from some moment on."""

    time: float
    """In seconds, on the browser's clock."""
    picture: Image.Image


def main() -> None:
    """Record the page and write the picture."""
    frames = thin_out(record())
    size = write_gif(frames, DESTINATION)
    print(f"{DESTINATION}: {len(frames)} frames, {frames[-1].time - frames[0].time + HELD:.1f} s, {size:,} bytes")
    if size > LARGEST:
        sys.exit(f"larger than {LARGEST:,} bytes")


@contextmanager
def running_server() -> Iterator[str]:
    """Run `parastream serve` on a free port, and give the address of its page."""
    command = [sys.executable, "-m", "parastream.client.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = ""
        for line in process.stderr:
            if found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line):
                port = found[1]
            if line.startswith("ready"):
                break
        else:
            sys.exit("the server did not start")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.stderr.read()


def record() -> list[Frame]:
    """Record the page from the press of the button until all sentences are there."""
    with tempfile.TemporaryDirectory() as directory, running_server() as url, sync_playwright() as playwright:
        sound = Path(directory) / "sound.wav"
        samples, rate = soundfile.read(RECORDING, dtype="int16")
        soundfile.write(sound, samples[: int(SECONDS * rate)], rate)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--no-sandbox",
                "--hide-scrollbars",
                f"--force-device-scale-factor={SCALE}",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={sound}%noloop",
            ],
        )
        page = browser.new_page(no_viewport=True, color_scheme="light")
        fit_window(page)
        page.goto(url)
        with filming(page) as frames:
            page.get_by_role("button", name="Start captions").click()
            page.mouse.move(0, 0)
            expect(page.locator("#lines .text")).to_have_count(SENTENCES, timeout=30_000)
            expect(page.locator("#drafts > *")).to_have_count(0)
        browser.close()
    return frames


def fit_window(page: Page) -> None:
    """Give the window the size of the picture: an emulated viewport would be filmed at one pixel for each of CSS."""
    devtools = page.context.new_cdp_session(page)
    window = devtools.send("Browser.getWindowForTarget")["windowId"]
    frame = page.evaluate("[outerWidth - innerWidth, outerHeight - innerHeight]")
    bounds = {"width": WIDTH + frame[0], "height": HEIGHT + frame[1]}
    devtools.send("Browser.setWindowBounds", {"windowId": window, "bounds": bounds})
    while page.evaluate("[innerWidth, innerHeight]") != [WIDTH, HEIGHT]:
        page.wait_for_timeout(10)
    devtools.detach()


@contextmanager
def filming(page: Page) -> Iterator[list[Frame]]:
    """Film the page; its frames are added to the list."""
    frames: list[Frame] = []
    devtools = page.context.new_cdp_session(page)

    def take(event: dict[str, Any]) -> None:
        picture = Image.open(io.BytesIO(base64.b64decode(event["data"]))).convert("RGB")
        frames.append(Frame(event["metadata"]["timestamp"], picture))
        devtools.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    devtools.on("Page.screencastFrame", take)
    devtools.send("Page.startScreencast", {"format": "png"})
    yield frames
    devtools.remove_listener("Page.screencastFrame", take)
    devtools.send("Page.stopScreencast")


def thin_out(frames: list[Frame]) -> list[Frame]:
    """Leave out frames that came too soon after another one, or that look the same."""
    kept = frames[:1]
    for frame, following in pairwise([*frames, frames[-1]]):
        last = following is frame
        if (last or frame.time - kept[-1].time >= SHORTEST) and ImageChops.difference(
            frame.picture, kept[-1].picture
        ).getbbox():
            kept.append(frame)
    return kept


def write_gif(frames: list[Frame], destination: Path) -> int:
    """Write the frames, in one palette, and return the size of the file in bytes."""
    palette = frames[-1].picture.quantize(COLOURS, dither=Image.Dither.NONE)
    pictures = [frame.picture.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    shown = [following.time - frame.time for frame, following in pairwise(frames)]
    pictures[0].save(
        destination,
        save_all=True,
        append_images=pictures[1:],
        duration=[round(1000 * seconds) for seconds in (*shown, HELD)],
        loop=0,
        optimize=True,
    )
    return destination.stat().st_size


if __name__ == "__main__":
    main()
