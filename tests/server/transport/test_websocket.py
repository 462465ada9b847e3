"""WebSockets as sockets."""

from __future__ import annotations

import asyncio
import gc
import weakref

from parastream.server.transport.websocket import ListeningConnection, WebSocket
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from ...waiting import until
from ..fakes import asynchronous

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@asynchronous
async def test_what_goes_out_is_text_and_the_client_may_say_no_goodbye() -> None:
    completed: list[bool] = []

    async def handle(connection: ServerConnection) -> None:
        assert isinstance(connection, ListeningConnection)
        socket = WebSocket(connection)
        await socket.send(str(await socket.recv()).upper().encode())
        completed.append(await socket.close(1001, "done"))
        assert socket.closed == (1001, "done")

    async with serve(handle, "127.0.0.1", 0, create_connection=ListeningConnection) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await client.send("hello")
            assert await client.recv() == "HELLO"
            await client.wait_closed()
        await until(lambda: completed == [True])


@asynchronous
async def test_pieces_of_a_message_on_a_slow_line_are_heard_before_it_is_whole() -> None:
    sockets: list[WebSocket] = []
    done = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        assert isinstance(connection, ListeningConnection)
        sockets.append(WebSocket(connection))
        assert await sockets[0].recv() == bytes(5000)
        done.set()

    async with serve(handle, "127.0.0.1", 0, create_connection=ListeningConnection) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE)
        await until(lambda: bool(sockets))
        writer.write(bytes([0x82, 0xFE]) + (5000).to_bytes(2, "big") + bytes(4))
        for _ in range(5):
            before = sockets[0].heard
            writer.write(bytes(1000))
            await until(lambda before=before: sockets[0].heard > before)  # type: ignore[misc]
        await done.wait()
        writer.transport.abort()


@asynchronous
async def test_a_connection_that_is_closed_gives_its_memory_back_at_once() -> None:
    connections: list[weakref.ref[ServerConnection]] = []

    async def handle(connection: ServerConnection) -> None:
        connections.append(weakref.ref(connection))
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, create_connection=ListeningConnection) as server:
        gc.disable()
        try:
            async with connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
                await client.send(bytes(1 << 16))
            await until(lambda: connections[0]() is None)
        finally:
            gc.enable()
