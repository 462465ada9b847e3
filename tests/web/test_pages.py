"""The pages as a pure function of the path."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin

import pytest
from parastream.server.http.pages import WEB, elsewhere, page
from parastream.server.routes import room_at
from parastream.server.wire.messages import Start


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/", "index.html"),
        ("/?room=hall", "index.html"),
        ("/live/main-hall", "live.html"),
        ("/live/A_1?projector", "live.html"),
        ("/overlay/" + "x" * 64, "overlay.html"),
        ("/live/%E4%BC%9A", "live.html"),
        ("/live/" + "%E4%BC%9A".lower(), "live.html"),
        ("/live/हॉल-2?projector", "live.html"),
        ("/live", "rooms.html"),
        ("/overlay?name=a", "rooms.html"),
        ("/web/speaker.js", "speaker.js"),
        ("/web/client/session.js", "client/session.js"),
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
        "/web/client",
        "/web/client/",
        "/web/client/../../pages.py",
        "/web/client/missing.js",
        "/live/",
        "/live/two/parts",
        "/live/hall.vtt",
        "/live/" + "x" * 65,
        "/overlay/a b",
        "/overlay/hall%0a",
        "/live/%E4%BC",
        "/live/a%2Fb",
        "/live/%2e%2e",
        "/live/a%00",
        "/live/%E2%80%AEhall",  # written from right to left
        "/live/%F0%9F%98%80",
        "/live/" + "%F0%A0%80%80" * 51,  # too long for the name of a file
        "/v1/stream",
    ],
)
def test_nothing_else(path: str) -> None:
    assert page(path) is None


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/live/a%20b", "../live?name=a%20b"),
        ("/live/two/parts?x=1", "../../live?name=two%2Fparts"),
        ("/live/a%20b/", "../../live?name=a%20b"),
        ("/overlay/a b/会".encode().decode("ascii", "surrogateescape"), "../../overlay?name=a%20b%2F%E4%BC%9A"),
        ("/elsewhere/", None),
        ("/web/missing.js", None),
    ],
)
def test_what_cannot_be_a_room_leads_to_where_one_is_asked_for(path: str, place: str | None) -> None:
    assert elsewhere(path) == place
    if place is not None:
        found = page(
            urljoin(f"http://host{quote(path.partition('?')[0], errors='surrogateescape')}", place).removeprefix(
                "http://host"
            )
        )
        assert found is not None


def test_names_of_rooms_are_found_however_they_are_composed() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert room_at(f"/v1/rooms/{quote(decomposed)}") == composed
    assert Start(room=decomposed).room == composed
    with pytest.raises(ValueError, match="names of rooms are"):
        Start(room="a b")


@pytest.mark.parametrize("file", [path.name for path in WEB.iterdir() if path.is_file()] + ["client/session.js"])
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


@pytest.mark.parametrize("name", ["index.html", "live.html", "overlay.html", "rooms.html"])
def test_pages_load_nothing_from_elsewhere_and_need_no_inline_code(name: str) -> None:
    text = (WEB / name).read_text()
    for target in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert (WEB / re.fullmatch(r"(?:\.\./)?web/([\w.-]+)(?:#\w+)?", target)[1]).exists()  # type: ignore[index]
    assert re.search(r"<script>|<style|\sstyle=|\son\w+=", text) is None
