"""WebSockets in the form in which a `Connection` serves them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from parastream.server.transport.frames import Frames
from parastream.server.transport.limits import Budget
from parastream.server.transport.peers import Peer, name_of, peer_of
from parastream.server.wire.http import json_response
from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.typing import StatusLike, Subprotocol

logger = logging.getLogger("parastream.server")

ABNORMAL_CLOSURE = 1006
"""What websockets reports when no close frame came."""

_TURN = 32
"""Frames after which other connections have their turn."""


class ListeningConnection(ServerConnection):
    """A connection of websockets whose client cannot take more than its share of the loop and of the memory.

    websockets parses everything that one read of the socket brings (256 KiB, or 43,000 empty frames) before it looks
    at anything else, and answers pings without asking whether the client reads the answers. Here:

    - the bytes are parsed frame by frame, and the other connections have their turn after a few frames;
    - a client that sends more than `max_message_rate` frames a second is read no faster than that;
    - nothing is parsed while enough messages wait to be looked at;
    - a client that leaves more than `max_unsent_bytes` unread, besides the message that is being sent, is cut off.
    """

    def __init__(
        self,
        *args: Any,
        peer: Peer | None = None,
        select: Callable[[Request, Sequence[Subprotocol]], Subprotocol | None] = lambda request, offered: None,
        refuse: Callable[[Peer, HTTPStatus, str], Response] = lambda peer, status, message: json_response(
            status, message
        ),
        max_message_rate: float = 1000.0,
        max_unsent_bytes: int = 1 << 20,
        on_opened: Callable[[ListeningConnection], None] = lambda _: None,
        on_closed: Callable[[ListeningConnection], None] = lambda _: None,
        **options: Any,
    ) -> None:
        """Make a connection.

        Args:
            args: For websockets, as are the further `options`.
            peer: Who is at the other end, if a proxy has said so.
            select: Chooses one of the subprotocols that the client offers.
            refuse: Makes the response to what cannot become a WebSocket, given why.
            max_message_rate: See `ServerConfig`.
            max_unsent_bytes: See `ServerConfig`.
            on_opened: Called when its socket is open, and the TLS handshake done if there is one.
            on_closed: Called once after that, when its socket is closed.
            options: See `args`.
        """
        super().__init__(*args, **options)
        self.heard = 0.0
        """When bytes last came, on the loop's clock; 0 before that."""
        self.sending = 0
        """Bytes of the message that somebody waits for the client to take."""
        self._unread = bytearray()  # came in, but was not parsed
        self._ends = Frames()
        self._full = False  # enough messages wait
        self._waking: asyncio.Handle | None = None
        self._max_unsent_bytes = max_unsent_bytes
        self._budget = Budget(max_message_rate, self.loop.time())
        self._frames = 0  # since the connection was made
        self._peer = peer
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._refuse = refuse
        self._select = select
        self.protocol.select_subprotocol = self._select_subprotocol  # type: ignore[assignment, method-assign]
        # The only way to all answers that websockets gives by itself.
        self.protocol.reject = self._answer  # type: ignore[method-assign]
        self._parsing = False
        self._ignoring = False
        self._eof = False  # the client sends nothing more, which websockets does not know yet
        self._lost: tuple[Exception | None] | None = None  # neither that the connection is gone
        self._gone = False

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return peer_of(self.remote_address) if self._peer is None else self._peer

    @property
    def silent(self) -> bool:
        """Whether nothing has come in so far."""
        return self.heard == 0.0

    @property
    def upgraded(self) -> bool:
        """Whether it is a WebSocket by now, or was one."""
        return self.protocol.state is not State.CONNECTING

    def expect_large_messages(self, size: int) -> None:
        """Allow messages of `size` bytes, of which no more than one waits to be looked at."""
        self.protocol.max_message_size = size
        self.recv_messages.high = self.recv_messages.low = 0

    def ignore_messages(self) -> None:
        """Let nothing that the client says stand in the way of its close frame."""
        self._ignoring = True
        self._set_full(full=False)
        self._pass_end_on()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Perform the closing handshake."""
        self.ignore_messages()
        await super().close(code, reason)

    def _select_subprotocol(self, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return None if self.request is None else self._select(self.request, offered)

    def _answer(self, status: StatusLike, text: str) -> Response:
        return self._refuse(self.peer, HTTPStatus(status), text.strip().rstrip("."))

    # from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the pausing: what has been read already has to stop as well."""
        self._on_opened(self)
        super().connection_made(transport)
        self.recv_messages.pause = lambda: self._set_full(full=True)
        self.recv_messages.resume = lambda: self._set_full(full=False)

    def data_received(self, data: bytes) -> None:
        """Parse as much as may be now."""
        self._unread += data
        if self._waking is None:
            self._parse()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Note that the client sends nothing more. A request that came before that is still answered."""
        self._eof = True
        self._pass_end_on()
        return self._eof and self.transport.get_extra_info("sslcontext") is None  # TLS cannot be half-closed

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone, once everything that came before has been parsed."""
        self._lost, self._gone = (exc,), True
        self._on_closed(self)
        self._pass_end_on()

    def send_data(self) -> None:
        """Send what websockets has to say."""
        super().send_data()
        self._pass_end_on()

    # parsing

    def process_event(self, event: Event) -> None:
        """Count what comes in."""
        self._frames += 1
        if self._ignoring and isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            return
        super().process_event(event)

    def _set_full(self, *, full: bool) -> None:
        self._full = full
        if full:
            self._pause()
        elif self._waking is None:
            self._waking = self.loop.call_soon(self._parse)

    def _parse(self) -> None:
        """Parse some of what came in; the rest is for a later turn."""
        self._waking = None
        before, self.heard = self._frames, self.loop.time()
        wait = self._budget.wait(self.heard)
        for _ in range(0 if wait else _TURN):
            if self._full or not self._unread:
                break
            piece = self._take()
            self._parsing = True
            super().data_received(piece)
            self._parsing = False
            if self._unsent > self._max_unsent_bytes:
                logger.info("connection %s: cut off, since its client does not read", name_of(self.peer))
                self._unread.clear()
                self.transport.abort()
        self._budget.spend(self._frames - before)
        if self._full:
            return  # `_set_full` comes back
        if self._unread:
            self._pause()
            self._waking = self.loop.call_later(wait, self._parse) if wait else self.loop.call_soon(self._parse)
        else:
            if not self._gone:
                self.transport.resume_reading()
            self._pass_end_on()

    def _take(self) -> bytes:
        """Take what is parsed at once: a frame, before those a line of the request, or all that will be thrown away."""
        if self.protocol.eof_sent:
            size = len(self._unread)
        elif self.request is None:
            size = self._unread.find(b"\n") + 1 or len(self._unread)
        else:
            size = self._ends.next(self._unread)
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    def _pause(self) -> None:
        if not self._gone:
            self.transport.pause_reading()

    @property
    def _unsent(self) -> int:
        """Bytes that the client does not take, besides those that somebody waits for."""
        return 0 if self._gone else self.transport.get_write_buffer_size() - self.sending

    def _pass_end_on(self) -> None:
        """Tell websockets that the client sends nothing more, or is gone, once it knows what came before that."""
        if self._parsing:
            return
        unread = bool(self._unread) and not self._ignoring and self.protocol.state is State.OPEN
        if self._lost is not None and not unread:
            (exc,), self._lost, self._eof = self._lost, None, False
            self._unread.clear()
            if self._waking is not None:
                self._waking.cancel()
            super().connection_lost(exc)
            self._let_go()
        elif self._eof and not unread and (self.request is None or self.response is not None):
            self._eof = False
            super().eof_received()
            self.transport.close()

    def _let_go(self) -> None:
        """Break the circles of references, so that memory comes back at once."""
        self.recv_messages.pause = self.recv_messages.resume = _nothing
        del self._refuse, self.protocol.reject, self.protocol.select_subprotocol


def _nothing() -> None:
    pass


class WebSocket:
    """One connection. Everything that goes out is text, as UTF-8."""

    pings = True

    def __init__(self, connection: ListeningConnection) -> None:
        self._connection = connection

    @property
    def peer(self) -> str:
        """Host and port of the other side."""
        return name_of(self._connection.peer)

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

    async def gone(self) -> None:
        """Wait until the connection is closed."""
        await self._connection.wait_closed()

    async def send(self, message: bytes) -> None:
        """Send a text message, waiting while the client does not read. Raises `ConnectionClosed`."""
        self._connection.sending = len(message)
        try:
            await self._connection.send(message, text=True)
        finally:
            self._connection.sending = 0

    async def ping(self) -> None:
        """Send a ping; `heard` tells whether it was answered. Raises `ConnectionClosed`."""
        await self._connection.ping()

    async def close(self, code: int, reason: str) -> bool:
        """Close, and say whether the client completed the closing handshake."""
        await self._connection.close(code, reason)
        return self._connection.close_code != ABNORMAL_CLOSURE

    def abort(self) -> None:
        """Drop the connection."""
        self._connection.ignore_messages()
        self._connection.transport.abort()
