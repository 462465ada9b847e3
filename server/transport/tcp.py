"""Plain TCP in the form in which a `Connection` serves it, for protocols that are not WebSockets."""

from __future__ import annotations

import asyncio

from websockets.exceptions import ConnectionClosedError

_PIECE = 1 << 12
"""Bytes that are taken at once; then other connections have their turn."""


class TcpSocket:
    """One connection: `recv` gives bytes as they come. There are no pings: a client that is gone takes no bytes."""

    pings = False

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, send_timeout: float, close_timeout: float
    ) -> None:
        """Take over a connection.

        Args:
            reader: what the client sends.
            writer: what goes to the client.
            send_timeout: seconds in which the client must take what is sent.
            close_timeout: seconds in which it must take what is left at the end.
        """
        self.heard = 0.0
        self.closed: tuple[int | None, str] = None, ""
        self._reader = reader
        self._writer = writer
        self._send_timeout = send_timeout
        self._close_timeout = close_timeout

    @property
    def peer(self) -> str:
        """Host and port of the other side."""
        host, port = self._writer.get_extra_info("peername")[:2]
        return f"{host}:{port}"

    async def recv(self) -> bytes | None:
        """Return the next bytes; None at their end. Raises `ConnectionClosed`."""
        await asyncio.sleep(0)
        try:
            data = await self._reader.read(_PIECE)
        except OSError as error:
            raise ConnectionClosedError(None, None) from error
        self.heard = asyncio.get_running_loop().time()
        return data or None

    async def send(self, message: bytes) -> None:
        """Send bytes. Raises `ConnectionClosed`, also when the client does not take them in time."""
        try:
            self._writer.write(message)
            async with asyncio.timeout(self._send_timeout):
                await self._writer.drain()
        except OSError as error:  # `TimeoutError` is one
            raise ConnectionClosedError(None, None) from error

    async def ping(self) -> None:
        """Do nothing: there are no pings."""

    async def close(self, code: int, reason: str) -> bool:
        """Close, and say whether the client took everything; the protocol has told it why."""
        self.closed = code, reason
        self._writer.close()
        try:
            async with asyncio.timeout(self._close_timeout):
                await self._writer.wait_closed()
        except OSError:
            self.abort()
            return False
        return True

    def abort(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()
