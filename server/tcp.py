"""Plain TCP connections for protocols that are not WebSockets, in the form in which a `Link` serves them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

_PIECE = 1 << 16


class TcpSocket:
    """One connection: `recv` gives bytes as they come. There are no pings."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.close_code: int | None = None
        self._reader = reader
        self._writer = writer

    @property
    def peer(self) -> str:
        """Host and port of the other side."""
        host, port = self._writer.get_extra_info("peername")[:2]
        return f"{host}:{port}"

    @property
    def transport(self) -> asyncio.WriteTransport:
        """Has `abort`."""
        return self._writer.transport

    async def recv(self) -> bytes:
        """The next bytes. Raises `ConnectionClosed` at their end."""
        try:
            data = await self._reader.read(_PIECE)
        except OSError as error:
            raise ConnectionClosedError(None, None) from error
        if not data:
            raise ConnectionClosedOK(None, None)
        return data

    async def send(self, message: str | bytes, *, text: bool | None = None) -> None:
        """Send bytes. Raises `ConnectionClosed`."""
        try:
            self._writer.write(message.encode() if isinstance(message, str) else message)
            await self._writer.drain()
        except OSError as error:
            raise ConnectionClosedError(None, None) from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; the protocol has said why."""
        self.close_code = code
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def ping(self) -> Awaitable[Any]:
        """There is nothing to ask."""
        raise NotImplementedError
