"""The web pages and what they load, as a pure function of the request's path. The files are in `server/web`.

`server/web/client` is a link to the JavaScript client, which the pages are built on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from parastream.server.routes import room_at

WEB = Path(__file__).parents[1] / "web"

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_ROOM_PAGES = {"/live/": "live.html", "/overlay/": "overlay.html"}

_CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",  # the audio worklet, too
        "style-src 'self'",
        "img-src 'self'",
        "manifest-src 'self'",
        "connect-src 'self'",  # WebSockets to the same host, too
        "media-src blob:",  # files that are captioned
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is answered, with status 200."""

    content_type: str
    body: bytes
    microphone: bool = False
    """Whether the page may ask for it."""

    @property
    def headers(self) -> dict[str, str]:
        """All that the response has to say about the body, but for its length."""
        return {
            "Content-Type": self.content_type,
            "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
            "Permissions-Policy": f"microphone={'(self)' if self.microphone else '()'}, camera=(), geolocation=()",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }


def page(path: str) -> Page | None:
    """Return the page or file at `path`, ignoring a query; None if there is none."""
    path = path.partition("?")[0]
    if path == "/":
        return _files()["index.html"]
    if path.startswith("/web/"):
        return _files().get(path.removeprefix("/web/"))
    for prefix, name in _ROOM_PAGES.items():
        if path == prefix.rstrip("/"):
            return _files()["rooms.html"]
        if room_at(path, prefix) is not None:
            return _files()[name]
    return None


def elsewhere(target: str) -> str | None:
    """Return where a browser is sent that asks for a room by what cannot be its name: to the page that asks for one.

    None if the target is no page of a room. The way is relative: a proxy may serve the pages below a path of its own.
    """
    path = target.partition("?")[0]
    for prefix in _ROOM_PAGES:
        if path.startswith(prefix):
            up = "../" * path.removeprefix("/").count("/")
            given = path.removeprefix(prefix).strip("/")
            return f"{up}{prefix.strip('/')}?name={quote(given, safe='%', errors='surrogateescape')}"
    return None


@cache
def _files() -> dict[str, Page]:
    """Every file of the pages by its place in their directory."""
    files = [file for directory in (WEB, WEB / "client") for file in directory.iterdir() if file.is_file()]
    return {
        file.relative_to(WEB).as_posix(): Page(
            _CONTENT_TYPES[file.suffix], file.read_bytes(), microphone=file.name == "index.html"
        )
        for file in files
    }
