"""The ports of a server."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import suppress

import pytest
from parastream.server.config import ServerConfig

from ..waiting import until
from .fakes import FakeEngine, asynchronous, serving


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("listen", [(), ("wyoming=0",)])
def test_connections_that_come_while_the_server_closes_are_closed(turns: int, listen: tuple[str, ...]) -> None:
    clients: list[socket.socket] = []

    @asynchronous
    async def serve() -> None:
        async with serving(FakeEngine(), listen=listen) as server:
            port = server.ports["wyoming"] if listen else server.port
            clients.extend(socket.create_connection(("127.0.0.1", port)) for _ in range(2))
            for _ in range(turns):
                await asyncio.sleep(0)

    serve()
    for client in clients:
        with client, suppress(ConnectionResetError):
            client.settimeout(ServerConfig().close_timeout)
            while client.recv(4096):  # Wyoming's say why
                pass
    gc.collect()  # what was left open would tell


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\n"])
@asynchronous
async def test_a_request_that_never_ends_does_not_hold_the_server_up(begun: bytes) -> None:
    async with serving(FakeEngine(), start_timeout=1000, drain_timeout=0.1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(begun)
        await writer.drain()
        await until(lambda: any(not connection.silent for connection in server._listeners._open))
    with suppress(ConnectionResetError):
        await reader.read()
    writer.close()
