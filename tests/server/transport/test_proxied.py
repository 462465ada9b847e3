"""The PROXY protocol: headers in both versions, and connections that begin with one."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.server.app import Server
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.transport.peers import Peer
from parastream.server.transport.proxied import HeaderError, Waiting, missing, source
from parastream.server.transport.tcp import TcpSocket
from websockets.asyncio.client import connect

from ...waiting import until
from ..fakes import FakeEngine, asynchronous, serving
from ..leaping import leaping
from .raw import TEXT, frame, upgrade

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = ("127.0.0.0/8",)

ports = st.integers(0, 65535)
extensions = st.binary(max_size=300)


def binary(peer: Peer, extension: bytes = b"", *, command: int = 0x21) -> bytes:
    """A header of version 2."""
    source, target = ipaddress.ip_address(peer[0]), ipaddress.ip_address("::1" if ":" in peer[0] else "127.0.0.1")
    block = source.packed + target.packed + struct.pack("!HH", peer[1], 443) + extension
    return SIGNATURE + struct.pack("!BBH", command, 0x11 if source.version == 4 else 0x21, len(block)) + block


def line(peer: Peer) -> bytes:
    """A header of version 1."""
    kind, target = ("TCP6", "::1") if ":" in peer[0] else ("TCP4", "127.0.0.1")
    return f"PROXY {kind} {peer[0]} {target} {peer[1]} 443\r\n".encode()


def read(stream: bytes, piece: int = 1 << 16) -> tuple[bytes, bytes]:
    """Read a header from a stream, never more than may be read nor than `piece`; return it and the rest."""
    head = b""
    while (wanted := missing(head)) and len(head) < len(stream):
        head += stream[len(head) : len(head) + min(wanted, piece)]
    return head, stream[len(head) :]


@given(st.ip_addresses(), ports, st.binary(max_size=40), st.integers(1, 50), extensions)
def test_a_header_tells_the_client_and_takes_nothing_of_what_follows(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, rest: bytes, piece: int, extension: bytes
) -> None:
    peer = str(address), port
    for header in (line(peer), binary(peer, extension)):
        assert read(header + rest, piece) == (header, rest)
        assert source(header) == peer


@given(st.binary(max_size=250) | st.builds(lambda rest: SIGNATURE + rest, st.binary(max_size=60)))
def test_any_bytes_are_a_header_or_an_error(data: bytes) -> None:
    for stream in (data, b"PROXY " + data, SIGNATURE + b"\x21" + data):
        with suppress(HeaderError):
            head, _ = read(stream)
            if not missing(head):
                peer = source(head)
                assert peer is None or peer == ("", 0) or ipaddress.ip_address(peer[0])


@given(st.ip_addresses(), ports, st.integers(0, 15))
def test_a_header_with_fewer_addresses_than_it_says_is_an_error(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, length: int
) -> None:
    whole = binary((str(address), port))
    cut = whole[:14] + struct.pack("!H", length) + whole[16 : 16 + length]
    if length >= 12 and address.version == 4:
        assert source(cut) == (str(address), port)
    else:
        with pytest.raises(HeaderError, match=f"{length} bytes of addresses instead of"):
            source(cut)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        binary(("192.0.2.1", 1), command=0x20),
        SIGNATURE + b"\x20\0\0\0",
        SIGNATURE + b"\x21\0\0\x03abc",
    ],
)
def test_a_proxy_may_speak_for_itself(header: bytes) -> None:
    assert read(header) == (header, b"")
    assert source(header) is None


def test_a_client_behind_a_unix_socket() -> None:
    assert source(SIGNATURE + b"\x21\x31" + struct.pack("!H", 216) + bytes(216)) == ("", 0)


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it begins with b'GET / HTTP/1'"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "does not end with"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "allowed are PROXY TCP4"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "allowed are PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n", "192.0.2.256"),
        (b"PROXY TCP4 ::1 ::2 1 2\r\n", "::1"),
        (b"PROXY TCP6 ::1 192.0.2.1 1 2\r\n", "192.0.2.1"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "'01' is no port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "'65536' is no port"),
        (b"PROXY TCP4 " + b"1" * 100, "more than 107 bytes"),
        (SIGNATURE + b"\x11\x11\0\0", "its version and command are 0x11; allowed are 0x20 and 0x21"),
        (SIGNATURE + b"\x22\x11\0\0", "its version and command are 0x22"),
        (SIGNATURE + b"\x21\x12\0\x0c" + bytes(12), "its kind of address is 0x12; allowed are 0x00, 0x11, 0x21, 0x31"),
    ],
)
def test_what_is_no_header(stream: bytes, told: str) -> None:
    with pytest.raises(HeaderError) as raised:
        source(read(stream)[0])
    assert told in str(raised.value)


# connections


@asynccontextmanager
async def opened(server: Server, begun: bytes, port: int = 0) -> AsyncIterator[asyncio.StreamReader]:
    """What comes back on a connection that begins with some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port or server.port)
    try:
        writer.write(begun)
        yield reader
    finally:
        writer.transport.abort()


async def start(server: Server, header: bytes, **options: Any) -> None:
    """Start a session on a connection that begins with a header."""
    plain = socket.create_connection(("127.0.0.1", server.port))
    plain.sendall(header)
    url = server.url.replace("127.0.0.1", "localhost")
    async with connect(url, sock=plain, ping_interval=None, **options) as websocket:
        await websocket.send('{"type":"start"}')
        assert json.loads(await websocket.recv())["type"] == "ready"


PEER = ("192.0.2.7", 4711)


@pytest.mark.parametrize("header", [line(PEER), binary(PEER), binary(PEER, b"\x04\0\x01\0")])
@asynchronous
async def test_the_client_is_who_the_header_names(header: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "parastream.server")
    async with serving(FakeEngine(), proxy_protocol=LOCAL, listen=("vosk=0", "wyoming=0")) as server:
        await start(server, header)
        assert "opened by 192.0.2.7:4711" in caplog.text
        async with opened(server, header + b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n") as reader:
            assert b"404" in await reader.readline()
        async with opened(server, header + b'{"type":"describe"}\n', server.ports["wyoming"]) as reader:
            assert json.loads(await reader.readline())["type"] == "info"
            assert [cast(TcpSocket, each._socket).peer for each in server._connections] == ["192.0.2.7:4711"]


@asynchronous
async def test_addresses_of_a_header_are_not_believed_by_themselves(caplog: pytest.LogCaptureFixture) -> None:
    """Only who is among `proxies` may name a further one in `X-Forwarded-For`."""
    caplog.set_level("INFO", "parastream.server")
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    for proxies, told in ((LOCAL, "192.0.2.7"), ((*LOCAL, "192.0.2.0/24"), "203.0.113.9")):
        caplog.clear()
        async with serving(FakeEngine(), proxy_protocol=LOCAL, proxies=proxies) as server:
            await start(server, binary(PEER), additional_headers=forwarded)
        assert f"opened by {told}" in caplog.text


@asynchronous
async def test_nobody_else_may_send_a_header() -> None:
    """It is half a request, or a bad one, for those that are not named."""
    async with serving(FakeEngine(), proxy_protocol=("10.0.0.0/8", "unix")) as server:
        for header in (line(PEER), binary(PEER)):
            async with opened(server, header + upgrade("/v1/stream")) as reader:
                assert b"400" in await reader.readline()
        async with opened(server, upgrade("/v1/stream")) as reader:
            assert b"101" in await reader.readline()


@pytest.mark.parametrize("begun", [upgrade("/v1/stream"), SIGNATURE + b"\x21\xff\0\0", line(PEER)[:-2] + b"\n"])
@asynchronous
async def test_a_proxy_that_sends_no_header_is_dropped(begun: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FakeEngine(), proxy_protocol=LOCAL) as server:
        async with opened(server, begun) as reader:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert "`proxy_protocol` names this proxy, but there is no whole header: " in caplog.text
        assert "a connection from 127.0.0.1:" in caplog.text
        async with opened(server, binary(PEER) + upgrade("/v1/stream")) as reader:
            assert b"101" in await reader.readline()


@asynchronous
async def test_half_a_header(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FakeEngine(), proxy_protocol=LOCAL) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(SIGNATURE[:5])
        writer.write_eof()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await until(lambda: "it ends after 5 bytes" in caplog.text)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()  # as who only looks whether the port is open
        await until(lambda: not server._listeners._open)
    assert caplog.text.count("no whole header") == 1


@leaping
async def test_a_header_has_to_come_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        serving(FakeEngine(), proxy_protocol=LOCAL, start_timeout=7) as server,
        opened(server, binary(PEER)[:20]) as reader,
    ):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    assert "bytes of it came within 7 s" in caplog.text


@asynchronous
async def test_a_server_that_closes_does_not_wait_for_headers() -> None:
    async with serving(FakeEngine(), proxy_protocol=LOCAL, start_timeout=1000) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await until(lambda: server._listeners._open)
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


@asynchronous
async def test_a_unix_socket_may_have_headers_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "parastream.server")
    path = str(tmp_path / "socket")
    async with serving(FakeEngine(), unix_socket=path, proxy_protocol=("unix",)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(binary(PEER) + upgrade("/v1/stream") + frame(TEXT, b'{"type":"start"}'))
        assert b"101" in await reader.readline()
        await reader.readuntil(b'"ready"')
        assert "opened by 192.0.2.7:4711" in caplog.text
        writer.transport.abort()


@asynchronous
async def test_tls_begins_after_the_header(certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """Or at once, with those that send none."""
    caplog.set_level("INFO", "parastream.server")
    context = ssl.create_default_context(cafile=certificate[0])
    tls = {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}
    for named, header in ((LOCAL, binary(PEER)), (LOCAL, line(PEER)), (("10.0.0.1",), b"")):
        async with serving(FakeEngine(), proxy_protocol=named, **tls) as server:
            await start(server, header, ssl=context)
            async with opened(server, header + upgrade()) as refused:  # no TLS
                with suppress(ConnectionResetError):
                    await refused.read()
    assert caplog.text.count("opened by 192.0.2.7:4711") == 2


@asynchronous
async def test_what_comes_during_a_handshake_is_kept() -> None:
    ours, theirs = socket.socketpair()
    waiting = Waiting()
    transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: waiting, sock=ours)
    theirs.sendall(b"early")
    theirs.shutdown(socket.SHUT_WR)
    await until(lambda: waiting._ended)
    reader = asyncio.StreamReader()
    waiting.pass_on(transport, asyncio.StreamReaderProtocol(reader))
    assert await reader.read() == b"early"
    transport.abort()
    theirs.close()


def test_the_setting_names_proxies() -> None:
    with pytest.raises(ConfigError, match="proxy_protocol holds 'proxy'; allowed are addresses and networks, unix: "):
        ServerConfig(proxy_protocol=("unix", "proxy"))
