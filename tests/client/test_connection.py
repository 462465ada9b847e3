"""Why there is no connection: the message names what is wrong, and what may be meant instead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from parastream.client import ConnectionFailedError, connect
from websockets.asyncio.server import ServerConnection, serve

from tests.server.fakes import FakeEngine, asynchronous, serving


async def reason(url: str, timeout: float = 20.0) -> str:
    """Return what the client says when it cannot connect."""
    with pytest.raises(ConnectionFailedError) as caught:
        await connect(url, open_timeout=timeout).__aenter__()
    message = str(caught.value)
    start = f"cannot connect to {url.partition('?')[0]}: "
    assert message.startswith(start)
    return message.removeprefix(start)


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """The address of something that is no WebSocket: it answers, or says nothing (None)."""

    handlers: list[asyncio.Task[Any]] = []

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            if answer is None:
                await reader.read()  # until the client goes away
            else:
                writer.write(answer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve_client, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*handlers)


@asynchronous
async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert await reason(f"ws://127.0.0.1:{port}") == "connection refused"
    assert await reason(f"ws://localhost:{port}") == "connection refused"


@asynchronous
async def test_a_token_in_the_address_is_not_repeated() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert await reason(f"ws://127.0.0.1:{port}/v1/stream?token=s3cret") == "connection refused"


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:8765", "127.0.0.1:8765"])
@asynchronous
async def test_no_address_of_a_websocket(url: str) -> None:
    assert "must begin with ws:// or wss://" in await reason(url)


@pytest.mark.parametrize("url", ["ws://[::1", "ws://127.0.0.1:99999"])
@asynchronous
async def test_a_malformed_address(url: str) -> None:
    assert await reason(url)


@asynchronous
async def test_a_name_that_no_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    assert await reason("ws://nowhere.test") == "there is no host of this name (Name or service not known)"


@asynchronous
async def test_something_that_never_answers() -> None:
    async with answering(None) as address:
        assert "accepted the connection but did not answer within 0.1 s" in await reason(f"ws://{address}", 0.1)
        assert "no TLS connection within 0.1 s; " in await reason(f"wss://{address}", 0.1)


@asynchronous
async def test_something_that_is_no_http() -> None:
    async with answering(b"SSH-2.0-OpenSSH_9.6\r\n") as address:
        assert await reason(f"ws://{address}") == (
            "the server did not answer in HTTP; if it uses TLS, its address begins with wss://"
        )
        assert (
            await reason(f"wss://{address}")
            == "the TLS handshake failed (WRONG_VERSION_NUMBER); without TLS the address begins with ws://"
        )


@asynchronous
async def test_http_without_a_websocket() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as address:
        assert "HTTP status 404, not with a WebSocket" in await reason(f"ws://{address}")


@asynchronous
async def test_a_websocket_that_speaks_something_else() -> None:
    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        assert "does not speak parastream.v1" in await reason(f"ws://127.0.0.1:{port}")
    async with serving(FakeEngine()) as parastream:
        assert "does not speak parastream.v1" in await reason(f"ws://127.0.0.1:{parastream.port}/vosk")


@asynchronous
async def test_tls_where_the_address_has_none_and_a_certificate_that_nobody_trusts(
    certificate: tuple[Path, Path],
) -> None:
    cert, key = certificate
    async with serving(FakeEngine(), tls_cert=str(cert), tls_key=str(key)) as server:
        assert "if it uses TLS, its address begins with wss://" in await reason(f"ws://127.0.0.1:{server.port}")
        assert "the server's certificate is not trusted: " in await reason(f"wss://127.0.0.1:{server.port}")
