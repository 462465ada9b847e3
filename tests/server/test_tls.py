"""A server that speaks TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from parastream.server.config import ConfigError, ServerConfig
from websockets.asyncio.client import connect

from ..conftest import make_certificate
from .fakes import UTTERANCE, FakeEngine, asynchronous, expected_texts, receive_all, serving


@asynchronous
async def test_a_session_over_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    async with serving(FakeEngine(), tls_cert=str(cert), tls_key=str(key)) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        async with connect(server.url, ssl=ssl.create_default_context(cafile=cert)) as websocket:
            await websocket.send('{"type":"start"}')
            await websocket.send(b"x" * UTTERANCE)
            await websocket.send('{"type":"stop"}')
            messages, code, _ = await receive_all(websocket)
    assert code == 1000
    assert [message.text for message in messages if hasattr(message, "text")] == expected_texts(b"x" * UTTERANCE)


@asynchronous
async def test_a_handshake_that_fails_takes_no_place(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parastream.server.listeners.most_connections", lambda **_: 1)
    cert, key = certificate
    async with serving(FakeEngine(), tls_cert=str(cert), tls_key=str(key)) as server:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        async with connect(server.url, ssl=ssl.create_default_context(cafile=cert)) as websocket:
            await websocket.send('{"type":"start"}')
            assert "ready" in str(await websocket.recv())


def replace_certificate(live: tuple[Path, Path], new: tuple[Path, Path]) -> None:
    for target, source in zip(live, new, strict=True):
        target.write_bytes(source.read_bytes())


@asynchronous
async def test_a_renewed_certificate_is_used_for_new_connections_and_open_ones_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, live = (make_certificate(make(tmp_path / name)) for name in ("old", "new", "live"))
    replace_certificate(live, old)

    def trusting(cert: Path) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=cert)

    async with (
        serving(FakeEngine(), tls_cert=str(live[0]), tls_key=str(live[1])) as server,
        connect(server.url, ssl=trusting(old[0])) as before,
    ):
        replace_certificate(live, new)
        server.reload_certificate()
        async with connect(server.url, ssl=trusting(new[0])) as after:
            for websocket in (before, after):
                await websocket.send('{"type":"start"}')
                assert "ready" in str(await websocket.recv())
        with pytest.raises(ssl.SSLError):
            await connect(server.url, ssl=trusting(old[0]))
        live[1].write_bytes(old[1].read_bytes())  # a key that does not fit
        server.reload_certificate()
        assert "the certificate was not replaced" in caplog.text
        async with connect(server.url, ssl=trusting(new[0])):
            pass


@asynchronous
async def test_a_server_without_tls_has_nothing_to_reload() -> None:
    async with serving(FakeEngine()) as server:
        server.reload_certificate()
        async with connect(server.url):
            pass


def make(directory: Path) -> Path:
    directory.mkdir()
    return directory


def test_certificates_that_cannot_be_used(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = tmp_path / "cert.pem"
    damaged.write_text("nonsense")
    for cert, key in ((str(damaged), ""), ("/nowhere.pem", ""), (str(certificate[0]), "")):
        with pytest.raises(ConfigError, match="cannot use the certificate"):
            _ = ServerConfig(tls_cert=cert, tls_key=key).tls
