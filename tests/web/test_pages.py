"""The pages as a pure function of the path."""

from __future__ import annotations

import re

import pytest
from parastream.server.http.pages import WEB, page


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/", "index.html"),
        ("/?room=hall", "index.html"),
        ("/live/main-hall", "live.html"),
        ("/live/A_1?projector", "live.html"),
        ("/overlay/" + "x" * 64, "overlay.html"),
        ("/web/session.js", "session.js"),
    ],
)
def test_pages_and_files(path: str, file: str) -> None:
    found = page(path)
    assert found is not None
    assert found.body == (WEB / file).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/index.html",
        "/web/",
        "/web/../pages.py",
        "/web/%2e%2e/pages.py",
        "/web/missing.js",
        "/live/",
        "/live/two/parts",
        "/live/hall.vtt",
        "/live/" + "x" * 65,
        "/overlay/a b",
        "/overlay/hall%0a",
        "/v1/stream",
    ],
)
def test_nothing_else(path: str) -> None:
    assert page(path) is None


@pytest.mark.parametrize("file", [path.name for path in WEB.iterdir()])
def test_headers(file: str) -> None:
    found = page(f"/web/{file}")
    assert found is not None
    headers = found.headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Permissions-Policy"].startswith(f"microphone=({'self' if file == 'index.html' else ''})")


@pytest.mark.parametrize("name", ["index.html", "live.html", "overlay.html"])
def test_pages_load_nothing_from_elsewhere_and_need_no_inline_code(name: str) -> None:
    text = (WEB / name).read_text()
    for target in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert (WEB / re.fullmatch(r"(?:\.\./)?web/([\w.-]+)(?:#\w+)?", target)[1]).exists()  # type: ignore[index]
    assert re.search(r"<script>|<style|\sstyle=|\son\w+=", text) is None
