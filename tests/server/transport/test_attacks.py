"""Clients that take more than their share."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

import pytest
from parastream.server.config import ServerConfig
from parastream.server.transport.connection import Connection
from parastream.server.transport.files import Places, most_connections, raise_limit
from parastream.server.transport.tcp import TcpSocket
from parastream.server.transport.websocket import ListeningConnection, WebSocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ...waiting import settle, until
from ..fakes import FakeEngine, asynchronous, connected, receive_ready, serving
from .raw import BINARY, CONTINUATION, PING, PONG, TEXT, RawClient, close_frame, frame, raw, upgrade
from .test_connection import Script

START = b'{"type": "start"}'
FREELY = 1e9
"""Messages a second."""


@asynccontextmanager
async def listening(handle: Callable[[WebSocket], Awaitable[None]], **options: Any) -> AsyncIterator[int]:
    """A server of WebSockets; gives its port."""

    async def run(connection: ServerConnection) -> None:
        await handle(WebSocket(cast(ListeningConnection, connection)))

    create = cast(type[ServerConnection], partial(ListeningConnection, **options))
    async with serve(run, "127.0.0.1", 0, create_connection=create, max_queue=4, ping_interval=None) as server:
        yield server.sockets[0].getsockname()[1]


def stop_reading(client: RawClient) -> None:
    cast(asyncio.ReadTransport, client.writer.transport).pause_reading()


async def send_until_cut_off(client: RawClient, data: bytes) -> None:
    try:
        while True:
            client.writer.write(data)
            await client.writer.drain()
            await asyncio.sleep(0)
    except OSError:
        return


# --- unsent bytes


@pytest.mark.parametrize(
    "path", ["/v1/rooms/hall", "/v1/stream", "/v1/listen?encoding=linear16&sample_rate=16000", "/"]
)
@asynchronous
async def test_a_client_that_sends_pings_and_reads_no_pongs_is_cut_off(path: str) -> None:
    async with (
        serving(FakeEngine(), max_unsent_bytes=10_000, max_message_rate=FREELY) as server,
        raw(server.port, path, receive_buffer=2000) as client,
        connected(server, START.decode()) as other,
    ):
        stop_reading(client)
        await send_until_cut_off(client, frame(PING, bytes(125)) * 500)
        await receive_ready(other)


@asynchronous
async def test_a_large_message_on_its_way_does_not_count_as_unsent() -> None:
    sent = asyncio.Event()

    async def handle(socket: WebSocket) -> None:
        await socket.send(b" " * (8 << 20))
        sent.set()
        await socket.close(1000, "")

    async with listening(handle, max_unsent_bytes=10_000) as port, raw(port) as client:
        client.writer.write(frame(PING, b"?") * 10)
        await settle()
        assert not sent.is_set()
        assert len((await client.read_frame())[1]) == 8 << 20
        for _ in range(10):
            assert await client.read_frame() == (PONG, b"?")
        await sent.wait()


@asynchronous
async def test_a_tcp_client_that_asks_and_reads_no_answers_is_cut_off() -> None:
    async with (
        serving(FakeEngine(), listen=("wyoming=0",), max_message_rate=FREELY, close_timeout=0.01) as server,
        raw(server.ports["wyoming"], None, receive_buffer=2000) as client,
    ):
        stop_reading(client)
        await send_until_cut_off(client, b'{"type": "describe"}\n' * 100)


# --- messages


@pytest.mark.parametrize("opcode", [BINARY, TEXT, PING, PONG, CONTINUATION])
@asynchronous
async def test_a_burst_of_tiny_frames_is_taken_in_many_turns_of_the_loop(opcode: int) -> None:
    """Each turn is short by what is done in it, however slow the machine is."""
    count, frames, most = 5000, 0, 0
    done = asyncio.Event()

    async def handle(socket: WebSocket) -> None:
        try:
            while await socket.recv() != "end":
                pass
        except ConnectionClosed:  # too many fragments
            pass
        done.set()

    async def watch() -> None:
        nonlocal most
        last = 0
        while True:
            await asyncio.sleep(0)
            most, last = max(most, frames - last), frames

    class Counting(ListeningConnection):
        def process_event(self, event: Any) -> None:
            nonlocal frames
            frames += 1
            super().process_event(event)

    async def run(connection: ServerConnection) -> None:
        await handle(WebSocket(cast(ListeningConnection, connection)))

    create = cast(type[ServerConnection], partial(Counting, max_message_rate=FREELY))
    options: dict[str, Any] = {"max_queue": 4, "ping_interval": None, "close_timeout": 0.05}
    async with serve(run, "127.0.0.1", 0, create_connection=create, **options) as server:
        watching = asyncio.create_task(watch())
        async with raw(server.sockets[0].getsockname()[1]) as client:
            burst = frame(opcode) * count
            if opcode == CONTINUATION:
                burst = frame(TEXT, last=False) + frame(CONTINUATION, last=False) * count
            client.writer.write(burst + frame(TEXT, b"end"))
            await done.wait()
        watching.cancel()
    assert frames > 100
    assert most <= 2 * 32, "at most two turns"


@asynchronous
async def test_a_stream_of_tiny_frames_does_not_keep_others_from_being_served() -> None:
    async with (
        serving(FakeEngine()) as server,
        raw(server.port, "/v1/stream") as client,
        connected(server, START.decode()) as other,
    ):
        await receive_ready(other)
        client.writer.write(frame(TEXT, START) + frame(BINARY) * 100_000)
        for _ in range(20):
            await other.send(bytes(3200))
            assert await other.recv()


@asynchronous
async def test_a_client_is_read_no_faster_than_is_allowed() -> None:
    received = 0
    rest = asyncio.Event()

    async def handle(socket: WebSocket) -> None:
        nonlocal received
        while True:
            await socket.recv()
            received += 1
            if received == 100:
                rest.set()

    async with listening(handle, max_message_rate=100.0) as port, raw(port) as client:
        began = asyncio.get_running_loop().time()
        client.writer.write(frame(BINARY) * 400)
        await rest.wait()
        await until(lambda: received == 400)
        assert asyncio.get_running_loop().time() - began > 2  # a lower bound, which no load can break


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET / HTTP/1.1\r\nBAD\n", b"\n"),
        (upgrade() + frame(BINARY, reserved=1), b"\x82\x00"),
        (upgrade() + close_frame(1000), frame(BINARY)),
    ],
    ids=["after a bad request", "after a bad frame", "after a close frame"],
)
@asynchronous
async def test_what_is_thrown_away_is_not_looked_at_piece_by_piece(
    begin: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, take = 0, ServerConnection.data_received

    def counting(self: ServerConnection, data: bytes) -> None:
        nonlocal taken
        taken += 1
        take(self, data)

    async def handle(socket: WebSocket) -> None:
        await socket.gone()

    monkeypatch.setattr(ServerConnection, "data_received", counting)
    async with listening(handle, max_message_rate=FREELY) as port, raw(port, None) as client:
        client.writer.write(begin + more * 100_000)
        client.writer.write_eof()
        with suppress(ConnectionError):
            while await client.reader.read(1000):
                pass
    assert 2 < taken < 100


@asynchronous
async def test_what_came_before_the_connection_broke_is_taken_all_the_same() -> None:
    received: list[str | bytes] = []
    done = asyncio.Event()

    async def handle(socket: WebSocket) -> None:
        try:
            while True:
                received.append(await socket.recv())
                await asyncio.sleep(0)
        except ConnectionClosed:
            done.set()

    async with listening(handle) as port:
        async with raw(port) as client:
            client.writer.write(b"".join(frame(BINARY, bytes([number])) for number in range(200)))
            await client.writer.drain()
            await until(lambda: bool(received))
        await done.wait()
    assert received == [bytes([number]) for number in range(200)]


@asynchronous
async def test_a_server_that_closes_does_not_wait_for_messages_that_nobody_takes() -> None:
    closed: list[bool] = []

    async def handle(socket: WebSocket) -> None:
        await socket.recv()
        closed.append(await socket.close(1000, "enough"))

    async with listening(handle) as port, raw(port) as client:
        client.writer.write(frame(BINARY) * 500)
        assert (await client.read_frame())[1][2:] == b"enough"
        client.writer.write(frame(BINARY) * 500 + frame(8, b"\x03\xe8"))
        assert await client.reader.read() == b""
        client.writer.close()
        await until(lambda: bool(closed))
    assert closed == [True], "the closing handshake was completed"


@asynchronous
async def test_bytes_without_frames_are_taken_in_small_pieces() -> None:
    async def serve_script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket = TcpSocket(reader, writer, send_timeout=5, close_timeout=5)
        await Connection(socket, script, ServerConfig()).run()
        done.set()

    script, done = Script(), asyncio.Event()
    server = await asyncio.start_server(serve_script, "127.0.0.1", 0)
    async with raw(server.sockets[0].getsockname()[1], None) as client:
        client.writer.write(bytes(100_000))
        client.writer.write_eof()
        await done.wait()
    server.close()
    assert sum(map(len, script.received)) == 100_000
    assert max(map(len, script.received)) <= 4096


# --- half-closed connections


@pytest.mark.parametrize("path", ["/healthz", "/v1/info", "/", "/nowhere"])
@asynchronous
async def test_a_request_is_answered_though_its_client_sends_nothing_more(path: str) -> None:
    async with serving(FakeEngine()) as server, raw(server.port, None) as client:
        client.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        client.writer.write_eof()
        answer = await client.reader.read()
    assert answer.startswith(b"HTTP/1.1 404" if path == "/nowhere" else b"HTTP/1.1 200")


@pytest.mark.parametrize("stop", [b'{"type": "audio-stop"}\n', b""], ids=["after audio-stop", "in the middle"])
@asynchronous
async def test_a_wyoming_client_that_sends_nothing_more_gets_its_transcript(stop: bytes) -> None:
    chunk = b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_length": 3200}\n'
    async with (
        serving(FakeEngine(), listen=("wyoming=0",)) as server,
        raw(server.ports["wyoming"], None) as client,
    ):
        client.writer.write(chunk + bytes(3200) + stop)
        client.writer.write_eof()
        answer = await client.reader.read()
    assert b'"transcript-stop"' in answer


# --- files


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert raise_limit() > 256
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
        assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0], "a second time changes nothing"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("limit", [64, 256, 1024])
def test_connections_leave_room_for_other_files(limit: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        plain, saving = most_connections(sessions=500, files_each=0), most_connections(sessions=500, files_each=5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 1 <= saving <= plain <= limit - 32
    assert saving * 6 <= limit or saving + 500 * 5 <= limit


def test_a_place_is_given_back_and_the_log_tells_once_that_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    places = Places(2)
    places.enter()
    assert places.free
    places.enter()
    assert [places.free for _ in range(2)] == [False, False]
    places.leave()
    assert places.free
    assert caplog.text.count("as many as the limit of open files") == 1


@asynchronous
async def test_connections_for_which_there_are_no_files_are_turned_away_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("parastream.server.listeners.most_connections", lambda **_: 3)
    caplog.set_level(logging.WARNING)
    async with serving(FakeEngine(), listen=("wyoming=0",)) as server, AsyncExitStack() as stack:
        session = await stack.enter_async_context(connected(server, START.decode()))
        await receive_ready(session)
        for _ in range(2):  # that say nothing
            await stack.enter_async_context(raw(server.port, None))
        for port in (server.port, server.ports["wyoming"]):
            async with raw(port, None) as turned_away:
                with suppress(ConnectionResetError):
                    assert await turned_away.reader.read() == b""
        await session.send(bytes(3200))
        assert await session.recv()
        await stack.aclose()
        async with connected(server, START.decode()) as later:
            await receive_ready(later)
    assert caplog.text.count("as many as the limit") == 1
