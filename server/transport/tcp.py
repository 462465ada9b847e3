"""Plain TCP connections for protocols that are not WebSockets, in the form in which a `Link` serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

_PIECE = 1 << 16


class TcpSocket:
    """One connection: `recv` gives bytes as they come. There are no pings: a client that is gone takes no bytes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, send_timeout: float, close_timeout: float
    ) -> None:
        """Seconds in which the client must take what is sent, and what is left at the end."""
        self.close_code: int | None = None
        self.heard = 0.0
        self._reader = reader
        self._writer = writer
        self._send_timeout = send_timeout
        self._close_timeout = close_timeout

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
        self.heard = asyncio.get_running_loop().time()
        return data

    async def send(self, message: str | bytes, *, text: bool | None = None) -> None:
        """Send bytes. Raises `ConnectionClosed`."""
        try:
            self._writer.write(message.encode() if isinstance(message, str) else message)
            async with asyncio.timeout(self._send_timeout):
                await self._writer.drain()
        except OSError as error:  # `TimeoutError` is one
            raise ConnectionClosedError(None, None) from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; the protocol has said why."""
        self.close_code = code
        self._writer.close()
        try:
            async with asyncio.timeout(self._close_timeout):
                await self._writer.wait_closed()
        except OSError:
            self._writer.transport.abort()

    async def ping(self) -> Awaitable[Any]:
        """There is nothing to ask."""
        raise NotImplementedError
