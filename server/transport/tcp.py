"""Plain TCP in the form in which a `Connection` serves it, for protocols that are not WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from parastream.server.transport.peers import Peer, name_of, peer_of
from websockets.exceptions import ConnectionClosedError

_PIECE = 1 << 12
"""Bytes that are taken at once; then other connections have their turn."""
_LONGEST_LEAVE = 60.0
"""Seconds that a client may go on sending after it was told that nothing is wanted any more."""
_MOST_UNWANTED = 16 << 20
"""Bytes of that."""


class _Leaving(asyncio.Protocol):
    """Lets a client finish what it is sending, unread, before the connection is closed.

    Whoever closes a connection with bytes unread resets it, and the reset may take away what the client has not read:
    the error that it was sent.
    """

    def __init__(self) -> None:
        self.heard = asyncio.get_running_loop().time()
        """When something came last."""
        self.unwanted = 0
        """Bytes so far."""
        self.completed = False
        """Whether the client has closed its side."""
        self.gone = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        self.unwanted += len(data)
        if self.unwanted > _MOST_UNWANTED:
            self.gone.set()

    def eof_received(self) -> None:
        self.completed = True  # and what is left for the client is sent before the connection is lost

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()


class TcpSocket:
    """One connection: `recv` gives bytes as they come. There are no pings: a client that is gone takes no bytes."""

    pings = False

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        send_timeout: float,
        close_timeout: float,
        peer: Peer | None = None,
    ) -> None:
        """Take over a connection.

        Args:
            reader: what the client sends.
            writer: what goes to the client.
            send_timeout: seconds in which the client must take what is sent.
            close_timeout: seconds in which it must take what is left at the end.
            peer: who is at the other end, if a proxy has said so.
        """
        self.heard = 0.0
        self.closed: tuple[int | None, str] = None, ""
        self._reader = reader
        self._writer = writer
        self._send_timeout = send_timeout
        self._close_timeout = close_timeout
        self._peer = peer
        self._ended = False  # the client sends nothing more
        self._leaving: _Leaving | None = None

    @property
    def address(self) -> Peer:
        """Host and port of the other side."""
        return peer_of(self._writer.get_extra_info("peername")) if self._peer is None else self._peer

    @property
    def peer(self) -> str:
        """The same for the log."""
        return name_of(self.address)

    async def recv(self) -> bytes | None:
        """Return the next bytes; None at their end. Raises `ConnectionClosed`."""
        return await self._read(_PIECE) or None

    async def _read(self, most: int) -> bytes:
        await asyncio.sleep(0)
        try:
            data = await self._reader.read(most)
        except OSError as error:
            raise ConnectionClosedError(None, None) from error
        self.heard = asyncio.get_running_loop().time()
        self._ended = not data
        return data

    async def gone(self) -> None:
        """Wait for ever: a client that sends nothing more may still read, and only sending tells whether it does."""
        await asyncio.get_running_loop().create_future()

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
        """Close, and say whether the client took everything; the protocol has told it why.

        A client that is still sending has until nothing has come from it for `close_timeout`. When this was cancelled,
        the next call waits no longer than that.
        """
        self.closed = code, reason
        if not self._ended:
            return await self._leave()
        self._writer.close()
        try:
            async with asyncio.timeout(self._close_timeout):
                await self._writer.wait_closed()
        except OSError:
            self.abort()
            return False
        return True

    async def _leave(self) -> bool:
        """Say that nothing more comes, and wait for the client to say so, too."""
        clock, transport = asyncio.get_running_loop().time, cast(asyncio.Transport, self._writer.transport)
        end = clock() + (_LONGEST_LEAVE if self._leaving is None else self._close_timeout)
        if self._leaving is None:
            if transport.is_closing():
                return False
            self._leaving = _Leaving()
            transport.set_protocol(self._leaving)
            transport.resume_reading()
            with contextlib.suppress(OSError):  # it has reset the connection, as HAProxy does after a check
                if transport.can_write_eof():  # TLS cannot
                    transport.write_eof()
        leaving = self._leaving
        while not leaving.gone.is_set() and (until := min(leaving.heard + self._close_timeout, end)) > clock():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await leaving.gone.wait()
        self.abort()
        return leaving.completed

    def abort(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()


def hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol, data: bytes) -> None:
    """Let another protocol go on with a connection, from which this has been read already."""
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if data:
        protocol.data_received(data)
