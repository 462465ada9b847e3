"""WebKit, Safari's engine, in Debian's build: driven over WebDriver on a screen that nobody sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import WebKitGTK, WebKitGTKOptions
from selenium.webdriver.webkitgtk.service import Service

_BROWSERS = ("/usr/lib", "webkit2gtk-4.*/MiniBrowser")


def _installed() -> tuple[str, str, str]:
    """The paths of the driver, the browser and the screen. Without them the test is skipped, but fails under `CI`."""
    driver, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    root, pattern = _BROWSERS
    browsers = [*Path(root).glob(f"*/{pattern}"), *Path(root).glob(pattern)]
    if driver and screen and browsers:
        return driver, str(browsers[0]), screen
    reason = "there is no WebKit to be driven (Debian: apt-get install webkit2gtk-driver xvfb)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _screen(program: str) -> Iterator[str]:
    """A display of an X server of its own; its name."""
    reading, writing = os.pipe()
    command = [program, "-displayfd", str(writing), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with open(reading) as numbers:
            number = numbers.readline().strip()  # once it is ready
        assert number, "the X server did not start"
        try:
            yield f":{number}"
        finally:
            server.terminate()


@contextmanager
def running_webkit() -> Iterator[WebKitGTK]:
    """A window of WebKit that has no microphone, and plays no sound that nobody has asked for."""
    driver, browser, screen = _installed()
    with _screen(screen) as display:
        options = WebKitGTKOptions()
        options.binary_location = browser
        options.add_argument("--automation")
        environment = {**os.environ, "DISPLAY": display, "GDK_BACKEND": "x11", "WEBKIT_DISABLE_COMPOSITING_MODE": "1"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # selenium warns of what it does itself
            window = WebKitGTK(options=options, service=Service(executable_path=driver, env=environment))
        try:
            yield window
        finally:
            window.quit()
