"""A server that speaks TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from parastream.server.config import ConfigError, ServerConfig
from websockets.asyncio.client import connect

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


def test_certificates_that_cannot_be_used(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = tmp_path / "cert.pem"
    damaged.write_text("nonsense")
    for cert, key in ((str(damaged), ""), ("/nowhere.pem", ""), (str(certificate[0]), "")):
        with pytest.raises(ConfigError, match="cannot use the certificate"):
            _ = ServerConfig(tls_cert=cert, tls_key=key).tls
