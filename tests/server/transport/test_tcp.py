"""Plain TCP connections as sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from parastream.server.transport.tcp import TcpSocket
from websockets.exceptions import ConnectionClosedError

from ..fakes import asynchronous


@asynccontextmanager
async def pair(**timeouts: float) -> AsyncIterator[tuple[TcpSocket, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket of a server, and the client's end."""
    options: dict[str, Any] = {"send_timeout": 5.0, "close_timeout": 5.0, **timeouts}
    accepted: asyncio.Queue[TcpSocket] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(TcpSocket(reader, writer, **options))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    socket = await accepted.get()
    try:
        yield socket, reader, writer
    finally:
        socket.abort()
        writer.transport.abort()
        server.close()
        await server.wait_closed()


@asynchronous
async def test_a_client_that_resets_the_connection_is_no_error() -> None:
    accepted: asyncio.Queue[TcpSocket] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(TcpSocket(reader, writer, send_timeout=5, close_timeout=5))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours = await accepted.get()
    client.close()  # and the loop does not know yet
    assert not await ours.close(1000, "")
    server.close()
    await server.wait_closed()


async def read_all(socket: TcpSocket) -> None:
    while await socket.recv() is not None:
        pass


@asynchronous
async def test_bytes_go_both_ways_and_the_end_is_told() -> None:
    async with pair() as (socket, reader, writer):
        assert socket.peer == "{}:{}".format(*writer.get_extra_info("sockname")[:2])
        before = socket.heard
        writer.write(b"hello")
        assert await socket.recv() == b"hello"
        assert socket.heard > before
        await socket.send(b"world")
        assert await reader.readexactly(5) == b"world"
        writer.write_eof()
        assert await socket.recv() is None
        assert await socket.close(1000, "done")
        assert await reader.read() == b""
        assert socket.closed == (1000, "done")


@asynchronous
async def test_a_client_that_resets_the_connection() -> None:
    async with pair() as (socket, _, writer):
        await socket.send(b"never read")
        writer.transport.abort()
        with contextlib.suppress(ConnectionClosedError):
            await read_all(socket)


@asynchronous
async def test_a_client_that_takes_nothing_is_gone() -> None:
    async with pair(send_timeout=0.05, close_timeout=0.05) as (socket, _, _writer):
        with pytest.raises(ConnectionClosedError):
            await socket.send(bytes(64 << 20))  # more than all buffers on the way hold
        assert not await socket.close(1011, "gone")


@asynchronous
async def test_a_client_that_is_still_sending_reads_what_it_was_told() -> None:
    async with pair() as (socket, reader, writer):
        await socket.send(b"no")
        closing = asyncio.create_task(socket.close(1003, "no"))
        assert await reader.readexactly(2) == b"no"
        for _ in range(100):
            writer.write(bytes(4096))
            await writer.drain()
        assert await reader.read() == b""  # in order, not by a reset
        writer.close()
        assert await closing


@asynchronous
async def test_a_client_that_falls_silent_is_not_waited_for() -> None:
    async with pair(close_timeout=0.01) as (socket, reader, _writer):
        await socket.send(b"no")
        assert not await socket.close(1003, "no")
        assert not await socket.close(1003, "no")
        assert await reader.read() == b"no"


@asynchronous
async def test_a_client_that_never_stops_sending_is_cut_off() -> None:
    async with pair() as (socket, _, writer):
        closing = asyncio.create_task(socket.close(1003, "no"))
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()
        assert not await closing


@asynchronous
async def test_a_connection_that_is_gone_needs_no_goodbye() -> None:
    async with pair() as (socket, _, writer):
        writer.transport.abort()
        with contextlib.suppress(ConnectionClosedError):
            while await socket.recv() is not None:
                pass
        socket.abort()
        await socket.close(1003, "no")
