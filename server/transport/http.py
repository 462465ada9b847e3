"""Requests with bodies, beside WebSockets on the same port.

websockets serves what may become a WebSocket: requests by GET or HEAD. It refuses bodies and all other methods, so
these come here. h11 reads them; each connection serves one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any, cast

import h11
from parastream.server.transport.tcp import TcpSocket, hand_over
from parastream.server.wire.refusals import RefusalError
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError
from websockets.http11 import Request

_LARGEST_HEAD = 1 << 15
"""Bytes of a request before its body."""
_LONGEST_LINE = 1 << 13
"""Bytes of a line of the head that websockets reads."""
_REQUEST = re.compile(rb"[A-Z]+ [^ \n]+ HTTP/1\.1")
_HEADER = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_PIECE = 1 << 16
"""Bytes of a body that are taken at once."""


class Door(asyncio.Protocol):
    """Looks at the first request of a connection and passes the connection on to who serves it."""

    upgraded = False
    """It is no WebSocket yet."""

    def __init__(
        self,
        websocket: Callable[[], asyncio.Protocol],
        plain: Callable[[], asyncio.Protocol],
        *,
        timeout: float,
        on_opened: Callable[[Door], None],
        on_left: Callable[[Door], None],
    ) -> None:
        """Make a protocol for a connection.

        Args:
            websocket: makes the one that serves what may become a WebSocket.
            plain: makes the one that serves other requests.
            timeout: seconds in which the client must say what it wants.
            on_opened: called when its socket is open, and the TLS handshake done if there is one.
            on_left: called once after that, when the connection is passed on, or closed before.
        """
        self.transport: asyncio.Transport
        self._websocket = websocket
        self._plain = plain
        self._timeout = timeout
        self._on_opened = on_opened
        self._on_left = on_left
        self._head = b""
        self._timer: asyncio.TimerHandle

    @property
    def silent(self) -> bool:
        """Whether nothing has come in so far."""
        return not self._head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self.transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self.transport.abort)
        self._on_opened(self)

    def data_received(self, data: bytes) -> None:
        """Pass the connection on once it is clear to whom."""
        self._head += data
        plain = _is_plain(self._head)
        if plain is not None:
            self._pass_on(self._plain() if plain else self._websocket())

    def eof_received(self) -> bool | None:
        """Let websockets say what is wrong with half a request."""
        return self._pass_on(self._websocket()).eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client wanted nothing."""
        self._leave()

    def _pass_on(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        self._leave()
        hand_over(self.transport, protocol, self._head)
        return protocol

    def _leave(self) -> None:
        self._timer.cancel()
        self._on_left(self)


def _is_plain(head: bytes) -> bool | None:
    """Return whether a request cannot be left to websockets; None while that is not known.

    Args:
        head: the first bytes of the request.
    """
    if not any(head[: len(method)] == method[: len(head)] for method in (b"GET ", b"HEAD ")):
        return True
    end = head.find(b"\r\n\r\n")
    if end < 0:
        return None if len(head) < _LONGEST_LINE else False
    request, *lines = head[:end].split(b"\r\n")
    if not _REQUEST.fullmatch(request) or not all(map(_HEADER.fullmatch, lines)):
        return True  # websockets answers nothing to what it cannot read, and serves no other version
    names = {line.partition(b":")[0].strip().lower(): line for line in lines}
    length = names.get(b"content-length", b": 0").partition(b":")[2].strip()
    return length != b"0" or b"transfer-encoding" in names


class BadRequestError(Exception):
    """A request that is not HTTP, or asks for what cannot be; `status` is for the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpSocket(TcpSocket):
    """One request: `recv` gives its body as it comes, `send` takes the bytes of the response.

    The connection is closed after the response, since that may end before all of the body has come.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """See `TcpSocket`."""
        super().__init__(*args, **options)
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_HEAD)
        self._complete = False  # all of the body has come

    async def request(self) -> Request:
        """Return the request without its body.

        Raises:
            BadRequestError: it cannot be understood.
            ConnectionClosed: the client is gone.
        """
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            raise ConnectionClosedError(None, None)
        headers = Headers()
        for name, value in event.headers:
            headers[name.decode("ascii").title()] = value.decode("latin-1")
        target, method = event.target.decode("latin-1"), event.method.decode("ascii")
        return Request(target, headers, method, f"HTTP/{event.http_version.decode('ascii')}")

    async def recv(self) -> bytes | None:
        """Return the next bytes of the body; None at its end. Raises `ConnectionClosed`.

        Raises:
            RefusalError: they are not what the head of the request says.
        """
        try:
            event = await self._next_event()
        except BadRequestError as error:
            if self._ended:  # in the middle: the client is gone
                raise ConnectionClosedError(None, None) from error
            raise RefusalError("invalid_message", f"the body is damaged: {error.__cause__}") from error
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionClosedError(None, None)
        self._complete = True
        return None

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            try:
                event = self._parser.next_event()
                if event is not h11.NEED_DATA:
                    return cast(h11.Event, event)
                if self._parser.they_are_waiting_for_100_continue:
                    await self.send(self._parser.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                self._parser.receive_data(await self._read(_PIECE))
            except h11.RemoteProtocolError as error:
                raise BadRequestError(error.error_status_hint, f"not a request: {error}") from error

    async def gone(self) -> None:
        """Wait until the client is gone."""
        with contextlib.suppress(ConnectionClosedError):
            while await self._read(_PIECE):
                pass

    async def close(self, code: int, reason: str) -> bool:
        """See `TcpSocket.close`."""
        self._ended |= self._complete
        return await super().close(code, reason)
