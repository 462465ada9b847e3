"""Requests that websockets does not serve, on the port that they share: methods, bodies, pages of other origins."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from parastream.server.sessions.secrets import make_secret
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ...waiting import until
from ..fakes import FakeEngine, asynchronous, serving
from .asking import ask, exchange, request

ORIGIN = {"Origin": "https://app.example"}


@pytest.mark.parametrize(
    ("line", "status", "allow"),
    [
        ("POST /", 405, "GET, HEAD, OPTIONS"),
        ("PUT /v1/info", 405, "GET, HEAD, OPTIONS"),
        ("DELETE /v1/models/whisper-1", 405, "GET, HEAD, OPTIONS"),
        ("PATCH /v1/listen", 405, "POST, OPTIONS"),
        ("GET /v1/audio/transcriptions", 405, "POST, OPTIONS"),
        ("HEAD /v1/realtime/client_secrets", 405, "POST, OPTIONS"),
        ("POST /v1/stream", 405, "OPTIONS"),
        ("POST /v1/rooms/hall", 405, "GET, HEAD, OPTIONS"),
        ("GET /v1/listen", 426, "POST, OPTIONS"),
        ("GET /v1/stream", 426, "OPTIONS"),
        ("POST /nowhere", 404, None),
        ("POST /v1/audio/translations", 404, None),
        ("BREW /coffee", 404, None),
        ("GET /v1/models/unknown", 404, None),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"x": 1}'])
@asynchronous
async def test_what_is_not_served_is_answered_in_json(line: str, status: int, allow: str | None, body: bytes) -> None:
    async with serving(FakeEngine()) as server:
        answer = await ask(server, line, body=body)
    assert (answer.status, answer.headers.get("Allow")) == (status, allow)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if not line.startswith("HEAD"):
        message = answer.json.get("message") or answer.json.get("error", answer.json).get("message")
        assert message or answer.json["err_msg"]


@asynchronous
async def test_a_path_nearly_right_says_which_was_meant() -> None:
    async with serving(FakeEngine()) as server:
        answer = await ask(server, "POST /audio/transcriptions", body=b"x")
    assert answer.json["message"].endswith("did you mean /v1/audio/transcriptions?")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/3\r\nHost: x\r\n\r\n", 400),
    ],
)
@asynchronous
async def test_what_is_no_request(sent: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FakeEngine()) as server:
        answer = await exchange(server.port, sent)
    assert answer.status == status
    assert answer.json["message"].startswith("not a request: ")
    assert "refused: invalid_message: not a request: " in caplog.text


UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (request("GET /v1/stream", UPGRADE), 400, "missing Sec-WebSocket-Key header"),
        (request("GET /v1/stream", {**UPGRADE, "Sec-WebSocket-Key": "x"}), 400, "invalid Sec-WebSocket-Key header"),
        (request("GET /v1/stream", {"Upgrade": "websocket"}), 426, "missing Connection header"),
        (b"GET /v1/stream HTTP/1.0\r\nUpgrade: websocket\r\n\r\n", 400, "in HTTP/1.1"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "no more than 8192 bytes"),
    ],
)
@asynchronous
async def test_what_cannot_become_a_websocket(
    sent: bytes, status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(FakeEngine()) as server:
        answer = await exchange(server.port, sent)
    assert answer.status == status
    assert message in answer.json["message"]
    assert message in caplog.text


@asynchronous
async def test_old_clients_are_answered() -> None:
    """Balancers ask for the health of a server in HTTP/1.0."""
    async with serving(FakeEngine()) as server:
        assert (await exchange(server.port, b"GET /healthz HTTP/1.0\r\n\r\n")).json == {"status": "ok"}
        assert (await exchange(server.port, b"HEAD /readyz HTTP/1.0\r\n\r\n")).status == 200


@pytest.mark.parametrize("begun", [b"", b"P", b"POST / HTTP/1.1\r\nHost:", b"GE", b"GET / HTTP/1.1\r\n"])
@asynchronous
async def test_a_request_that_is_not_completed_is_given_up(begun: bytes) -> None:
    async with serving(FakeEngine(), start_timeout=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(begun)
        with contextlib.suppress(ConnectionResetError):  # where it was given up before it was read
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("begun", [b"P", b"POST / HTTP/1.1\r\nHost:", b"POST /v1/listen HTTP/1.1\r\nHost: x"])
@asynchronous
async def test_a_client_that_leaves_in_its_request_leaves_nothing_behind(begun: bytes) -> None:
    async with serving(FakeEngine()) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(begun)
        await writer.drain()
        listeners = server._listeners
        await until(lambda: bool(listeners._open) or bool(listeners._tasks))
        writer.close()
        await until(lambda: not listeners._open and not listeners._tasks)
        assert listeners._places._taken == 0


@asynchronous
async def test_bytes_that_come_one_by_one() -> None:
    async with serving(FakeEngine()) as server:
        for line in ("GET /healthz", "POST /v1/realtime/client_secrets"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for byte in request(line, body=b"{}" if line.startswith("POST") else b""):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()


@asynchronous
async def test_pages_of_an_allowed_origin_may_read_what_they_ask_for() -> None:
    async with serving(FakeEngine(), origins=("https://app.example",)) as server:
        for line in ("GET /v1/info", "GET /healthz", "GET /nowhere", "POST /v1/listen", "PUT /v1/info"):
            answer = await ask(server, line, ORIGIN, b"" if line.startswith("GET") else b"x")
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert answer.headers["Vary"] == "Origin"
        other = await ask(server, "GET /v1/info", {"Origin": "https://evil.example"})
        assert other.status == 403
        assert "Access-Control-Allow-Origin" not in other.headers
        assert "Vary" not in (await ask(server, "GET /v1/info")).headers


@asynchronous
async def test_a_browser_that_asks_what_pages_may_do() -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    async with serving(FakeEngine(), token="secret", origins=("https://app.example",)) as server:
        answer = await ask(server, "OPTIONS /v1/audio/transcriptions", {**ORIGIN, **asked})
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert answer.headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-os"
        evil = await ask(server, "OPTIONS /v1/listen", {**asked, "Origin": "https://evil.example"})
        assert (evil.status, evil.headers["Allow"]) == (204, "POST, OPTIONS")
        assert not [name for name in evil.headers if name.startswith("Access-Control")]
        assert (await ask(server, "OPTIONS /v1/info")).headers["Allow"] == "GET, HEAD, OPTIONS"


@asynchronous
async def test_models() -> None:
    engine = FakeEngine()
    async with serving(engine) as server:
        listed = (await ask(server, "GET /v1/models")).json
        assert [model["id"] for model in listed["data"]][:2] == ["scripted", "whisper-1"]
        assert (await ask(server, "GET /v1/models/scripted")).json == listed["data"][0]
        unknown = await ask(server, "GET /v1/models/tts-1")
        assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("line", "place"),
    [("POST /v1/audio/transcriptions", ("error", "message")), ("GET /v1/models", ("error", "message"))],
)
@asynchronous
async def test_a_token_is_needed_and_its_absence_told_in_the_protocols_own_form(
    line: str, place: tuple[str, str]
) -> None:
    async with serving(FakeEngine(), token="secret") as server:
        answer = await ask(server, line, body=b"x" if line.startswith("POST") else b"")
        assert answer.status == 401
        assert "a valid token is required" in answer.json[place[0]][place[1]]
        deepgram = await ask(server, "POST /v1/listen", {"Authorization": "Token wrong"}, b"x")
        assert (deepgram.status, deepgram.json["err_code"]) == (401, "Bad Request")


@asynchronous
async def test_a_client_secret_opens_openais_realtime_for_a_while_and_nothing_else() -> None:
    allowed = {"Authorization": "Bearer secret"}
    async with serving(FakeEngine(), token="secret") as server:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        answer = await ask(server, "POST /v1/realtime/client_secrets", allowed, b'{"expires_after":{"seconds":60}}')
        value = answer.json["value"]
        assert answer.json["session"]["type"] == "transcription"
        async with connect(url, additional_headers={"Authorization": f"Bearer {value}"}):
            pass
        for token, where in (
            (value, url.replace("realtime", "stream")),
            (make_secret("secret", 0), url),
            (make_secret("other", 1 << 40), url),
            ("ek_", url),
            ("ek_ffffffffff_0", url),
        ):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(where, additional_headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"[]", 400, "the body is no such request"),
        (b'{"expires_after":{"seconds":1}}', 400, "allowed: 10 to 7200"),
        (b'{"session":{"audio":{"input":{"format":{"type":"mp3"}}}}}', 400, "mp3"),
        (b" " * 70_000, 413, "larger than 65536 bytes"),
    ],
)
@asynchronous
async def test_client_secrets_that_cannot_be_had(body: bytes, status: int, message: str) -> None:
    async with serving(FakeEngine()) as server:
        answer = await ask(server, "POST /v1/realtime/client_secrets", body=body)
    assert answer.status == status
    assert message in answer.json["error"]["message"]
