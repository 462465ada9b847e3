"""WebSockets in the form in which a `Connection` serves them."""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection

ABNORMAL_CLOSURE = 1006
"""What websockets reports when no close frame came."""


class ListeningConnection(ServerConnection):
    """A connection of websockets that knows when bytes last came, on the loop's clock."""

    heard = 0.0

    def data_received(self, data: bytes) -> None:
        """Note the time."""
        self.heard = self.loop.time()
        super().data_received(data)


class WebSocket:
    """One connection. Everything that goes out is text, as UTF-8."""

    pings = True

    def __init__(self, connection: ListeningConnection) -> None:
        self._connection = connection

    @property
    def peer(self) -> str:
        """Host and port of the other side."""
        host, port = self._connection.remote_address[:2]
        return f"{host}:{port}"

    @property
    def heard(self) -> float:
        """When bytes last came, on the loop's clock."""
        return self._connection.heard

    @property
    def closed(self) -> tuple[int | None, str]:
        """Code and reason with which the connection was closed; the code is None while it is open."""
        return self._connection.close_code, self._connection.close_reason or ""

    async def recv(self) -> str | bytes:
        """Return the next message. Raises `ConnectionClosed`."""
        return await self._connection.recv()

    async def send(self, message: bytes) -> None:
        """Send a text message, waiting while the client does not read. Raises `ConnectionClosed`."""
        await self._connection.send(message, text=True)

    async def ping(self) -> None:
        """Send a ping; `heard` tells whether it was answered. Raises `ConnectionClosed`."""
        await self._connection.ping()

    async def close(self, code: int, reason: str) -> bool:
        """Close, and say whether the client completed the closing handshake."""
        await self._connection.close(code, reason)
        return self._connection.close_code != ABNORMAL_CLOSURE

    def abort(self) -> None:
        """Drop the connection."""
        self._connection.transport.abort()
