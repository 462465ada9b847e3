"""Requests over plain HTTP that are out of the ordinary."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from parastream.server.app import Server
from parastream.server.protocols.base import Request
from parastream.server.routes import parse
from parastream.server.wire.messages import ROOMS_PATH
from parastream.server.wire.refusals import RefusalError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ...waiting import until
from ..fakes import FakeEngine, asynchronous, connected, metrics, receive_all, receive_ready, serving


async def ask(server: Server, line: str, *headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the answer to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("\r\n".join([f"{line} HTTP/1.1", *(headers or ("Host: localhost",)), "", ""]).encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    first, *rest = head.split("\r\n")
    named = dict(each.split(": ", 1) for each in rest)
    return int(first.split()[1]), named, body


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/v1/listen?model=a&model=b&x=", "/v1/listen", {"model": ("a", "b"), "x": ("",)}),
        ("//[", "/[", {}),
        ("//v1//stream/", "/v1/stream", {}),
        ("/?x=1", "/", {"x": ("1",)}),
        ("///", "/", {}),
        ("http://host//v1/info/", "/v1/info", {}),
        ("http://[", "/", {}),
        ("http://host:1/v1/info?x=1", "/v1/info", {"x": ("1",)}),
        ("*", "/", {}),
        ("/a?b?c", "/a", {}),
    ],
)
def test_any_request_line(target: str, path: str, query: dict[str, tuple[str, ...]]) -> None:
    request = parse(target)
    assert request.path == path
    if query:
        assert request == Request(path, query)


@asynchronous
async def test_paths_that_are_none(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FakeEngine()) as server:
        for target in ("//[", "http://x//[", "/web/../app.py", "/live/../x.txt"):
            assert (await ask(server, f"GET {target}"))[0] == 404
    (told,) = caplog.records  # once for them all
    assert re.fullmatch(r"HTTP 127\.0\.0\.1:\d+: refused: unknown_path: there is nothing at .*", told.getMessage())


@asynchronous
async def test_methods() -> None:
    async with serving(FakeEngine()) as server:
        for path in ("/", "/healthz", "/v1/info"):
            _, headers, body = await ask(server, f"GET {path}")
            status, same, nothing = await ask(server, f"HEAD {path}")
            assert (status, nothing) == (200, "")
            assert same["Content-Length"] == headers["Content-Length"] == str(len(body.encode()))
            assert (await ask(server, f"POST {path}"))[0] == 405


@asynchronous
async def test_a_page_of_a_name_made_to_point_here_reads_nothing() -> None:
    """Browsers name no origin when a page reads from what they take for its own host."""
    async with serving(FakeEngine(), origins=("https://app.example",)) as server:
        for path in ("/v1/info", "/metrics", "/live/talk.txt"):
            assert (await ask(server, f"GET {path}", "Host: evil.example:8765"))[0] == 403
            for host in ("127.0.0.1:8765", "localhost", "[::1]:8765", "app.example"):
                assert (await ask(server, f"GET {path}", f"Host: {host}"))[0] in (200, 404)
    async with serving(FakeEngine(), token="t") as server:
        assert (await ask(server, "GET /v1/info?token=t", "Host: speech.example"))[0] == 200


@pytest.mark.parametrize("room", ["?", "a%20b", "a/b", "x" * 65])
@asynchronous
async def test_names_that_no_room_can_have(room: str) -> None:
    """They are not paths of another protocol, either."""
    async with serving(FakeEngine(), token="t", viewer_token="v") as server:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{server.port}{ROOMS_PATH}{room}?token=v")
    assert caught.value.response.status_code == 404
    assert b"letters and digits of any script, - and _" in (caught.value.response.body or b"")


@asynchronous
async def test_rooms_and_viewers_are_counted() -> None:
    async with serving(FakeEngine()) as server:
        url = server.url.replace("/v1/stream", f"{ROOMS_PATH}talk")
        async with connect(url) as one, connect(url) as other:
            await one.recv()
            await other.recv()
            found = await metrics(server)
    assert found["parastream_rooms"] == 1
    assert found["parastream_viewers"] == 2


@asynchronous
async def test_clients_write_no_lines_of_their_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parastream.server")
    wrong = '{"type":"start","a\\nsession 1: closed":1}'
    async with serving(FakeEngine()) as server:
        async with connected(server, wrong) as websocket:
            await receive_all(websocket)
        async with connected(server, '{"type":"start"}', wrong) as websocket:
            await receive_all(websocket)
        async with connected(server, '{"type":"start"}', b"audio!") as websocket:
            await receive_ready(websocket)
            await websocket.close(4000, "bye\nsession 1: closed")
            await until(lambda: "connection broke" in caplog.text)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("a\\nsession 1: closed" in line for line in lines) == 2
    assert any("4000 bye\\nsession 1: closed" in line for line in lines)
    assert not any("\n" in line for line in lines)


def test_what_is_logged_is_not_long() -> None:
    assert len(str(RefusalError("invalid_message", "x" * 10_000))) < 1100
