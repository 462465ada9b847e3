"""Paths that are nobody's, and paths that are written in another way."""

from __future__ import annotations

import msgspec
import pytest
from parastream.server.routes import meant_by
from parastream.server.wire.messages import Error
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ..fakes import FakeEngine, asynchronous, serving
from ..transport.raw import raw

GET = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/streem", "/v1/stream"),
        ("/v1/Stream", "/v1/stream"),
        ("/v1/streams", "/v1/stream"),
        ("/asr/v1/stream", "/v1/stream"),
        ("/v1/stream/room", "/v1/stream"),
        ("/stream", "/v1/stream"),
        ("/realtime?intent=transcription", "/v1/realtime"),
        ("/openai/v1/realtime", "/v1/realtime"),
        ("/v1/listn", "/v1/listen"),
        ("/listen", "/v1/listen"),
        ("/voks", "/vosk"),
        ("/Sherpa", "/sherpa"),
        ("/api/vosk/", "/vosk"),
    ],
)
@asynchronous
async def test_a_websocket_at_a_misspelt_path_is_told_which_was_meant(path: str, meant: str) -> None:
    async with serving(FakeEngine()) as server:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{server.port}{path}")
    response = caught.value.response
    error = msgspec.json.decode(response.body or b"", type=Error)
    assert (response.status_code, error.code) == (404, "unknown_path")
    assert error.message.endswith(f"did you mean {meant}?")
    assert meant in error.allowed


@pytest.mark.parametrize("path", ["/somewhere", "/a/b/c", "/%E4%BC%9A"])
@asynchronous
async def test_a_websocket_at_any_other_path_is_told_which_there_are(path: str) -> None:
    async with serving(FakeEngine()) as server:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{server.port}{path}")
    error = msgspec.json.decode(caught.value.response.body or b"", type=Error)
    assert "did you mean" not in error.message
    assert {"/", "/v1/stream", "/vosk"} <= set(error.allowed)


@pytest.mark.parametrize("path", ["/v1/stream/", "//v1/stream", "/v1//stream//?x=1", "/vosk/", "//", "/v1/realtime/"])
@asynchronous
async def test_slashes_too_many_do_not_count(path: str) -> None:
    async with serving(FakeEngine()) as server, connect(f"ws://127.0.0.1:{server.port}{path}"):
        pass


@pytest.mark.parametrize("path", ["/", "/anything", "/v1/stream"])
@asynchronous
async def test_on_a_port_of_its_own_a_protocol_is_at_every_path(path: str) -> None:
    async with (
        serving(FakeEngine(), listen=("funasr=0",)) as server,
        connect(f"ws://127.0.0.1:{server.ports['funasr']}{path}") as websocket,
    ):
        await websocket.send('{"is_speaking": false}')
        assert "is_final" in str(await websocket.recv())


@asynchronous
async def test_a_page_is_found_at_its_own_address_from_others() -> None:
    """What it loads is relative to it."""
    async with serving(FakeEngine()) as server:
        for asked, path in (("/live/hall/?size=3", "/live/hall?size=3"), ("//live//hall", "/live/hall")):
            async with raw(server.port, None) as client:
                client.writer.write(GET.format(asked).encode())
                answer = (await client.reader.read()).decode()
            assert answer.startswith("HTTP/1.1 308 ")
            assert f"\r\nLocation: {path}\r\n" in answer


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "/a\tb", "/\x1b[2J"])
@asynchronous
async def test_an_error_shows_no_more_than_a_line_of_a_path(path: str) -> None:
    async with serving(FakeEngine()) as server, raw(server.port, None) as client:
        client.writer.write(GET.format(path).encode("latin-1"))
        answer = (await client.reader.read()).decode()
    body = answer.partition("\r\n\r\n")[2]
    assert answer.startswith("HTTP/1.1 404 ")
    assert len(msgspec.json.decode(body, type=Error).message) < 250
    assert "\x1b" not in body


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/1.1",
        "GET /web/main.css HTTP/1.1",
        "GET /healthz HTTP/1.1",
        "GET //healthz/ HTTP/1.1",
        "GET /metrics HTTP/1.1",
        "GET /x HTTP/1.1",
        "POST / HTTP/1.1",
        "GET /v1/stream HTTP/1.1",
        "GET /live/x.txt HTTP/1.1",
        "GET /v1/info?token=wrong HTTP/1.1",
        f"GET /{'x' * 20_000} HTTP/1.1",
        "GET / HTTP/1.1\r\nX: " + "x" * 20_000,
    ],
)
@asynchronous
async def test_every_answer_forbids_browsers_to_guess_its_type(request_line: str) -> None:
    settings = {"token": "secret"} if "wrong" in request_line else {}
    async with serving(FakeEngine(), **settings) as server, raw(server.port, None) as client:
        client.writer.write(f"{request_line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = (await client.reader.read()).decode()
    assert answer.startswith("HTTP/1.1 ")
    assert "\r\nX-Content-Type-Options: nosniff\r\n" in answer


def test_nothing_is_meant_by_a_path_like_no_other() -> None:
    assert meant_by("/") is None
    assert meant_by("/x") is None
