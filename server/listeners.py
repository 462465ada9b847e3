"""The ports of a server: what comes in on each is answered, or becomes a socket that has a handler."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

from parastream.server.config import ServerConfig
from parastream.server.http.answers import HttpAnswers
from parastream.server.http.auth import client_of
from parastream.server.protocols.base import Request
from parastream.server.routes import ADAPTERS, TCP_ADAPTERS, parse, protocol_at, subprotocols
from parastream.server.transport.connection import Socket
from parastream.server.transport.files import Places, Refusing, most_connections
from parastream.server.transport.http import BadRequestError, Door, HttpSocket
from parastream.server.transport.peers import peer_of
from parastream.server.transport.tcp import TcpSocket
from parastream.server.transport.websocket import ListeningConnection, WebSocket
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.typing import Subprotocol

_logger = logging.getLogger("parastream.server.websockets")
_logger.setLevel(logging.WARNING)  # it tells of each connection what "parastream.server" tells of each session
# Browsers open connections ahead of need, and close them unused.
_logger.addFilter(lambda record: record.getMessage() != "opening handshake failed")

_MAX_QUEUE = 4  # messages of a connection that wait to be looked at; then it is not read
_TURNS_OF_ACCEPTING = 4
"""Turns of the event loop between accepting a socket and having somebody who serves it."""
_SAVED_FILES = 5
"""Files of a session that is saved: its events, three forms of the transcript, and one that is written anew."""

_Serves = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
_Selects = Callable[[HttpRequest, Sequence[Subprotocol]], Subprotocol | None]
Serve = Callable[[Socket, str, Request, str], Awaitable[None]]
"""Serves a socket until it is closed, given the name of its protocol, the request, and the client's address."""


class Listeners:
    """Everything that a server listens on."""

    def __init__(self, config: ServerConfig, http: HttpAnswers, serve: Serve) -> None:
        self._config = config
        self._http = http
        self._serve = serve
        self._websocket: list[WebSocketServer] = []
        self._tcp: list[asyncio.Server] = []
        self._tls: ssl.SSLContext | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[ListeningConnection | Door] = set()
        self._asking: set[HttpSocket] = set()  # those whose request is read or answered right here
        self._last_closed = asyncio.Event()
        self._places = Places(
            most_connections(sessions=config.max_sessions, files_each=_SAVED_FILES if config.save else 0)
        )

    def reload_certificate(self) -> None:
        """Read the certificate again, if there is one. Connections that are open keep theirs.

        Raises:
            ConfigError: it cannot be used; the one before stays.
        """
        if self._tls is not None:
            _ = self._config.tls  # raises before anything is replaced
            self._config.load_certificate(self._tls)

    async def open(self, port: int, protocol: str | None = None) -> int:
        """Listen on a port, for one protocol or for all of them by path, and return it.

        Raises:
            ConfigError: the certificate cannot be used.
            OSError: the address cannot be had.
        """
        listen = self._open_tcp if protocol in TCP_ADAPTERS else self._open_websocket
        return await listen(port, protocol)

    async def close(self) -> None:
        """Accept no more connections."""
        # asyncio loses the sockets that it has accepted, but not yet served, when their listener is closed.
        loop = asyncio.get_running_loop()
        listeners: list[WebSocketServer | asyncio.Server] = [*self._websocket, *self._tcp]
        for listener in listeners:
            for socket in listener.sockets:
                loop.remove_reader(socket.fileno())
        for _ in range(_TURNS_OF_ACCEPTING):
            await asyncio.sleep(0)
        for websocket_listener in self._websocket:
            websocket_listener.close(close_connections=False)
        for tcp_listener in self._tcp:
            tcp_listener.close()
        for connection in self._open:  # browsers open some ahead of need
            if connection.silent:
                connection.transport.abort()

    def hurry(self) -> None:
        """Drop whoever is still at a request, or at an answer that is none of a `Connection`."""
        for connection in self._open:
            if not connection.upgraded:
                connection.transport.abort()
        for socket in self._asking:
            socket.abort()

    async def wait_closed(self) -> None:
        """Wait until the last connection has been closed."""
        websockets_closed = (listener.wait_closed() for listener in self._websocket)
        await asyncio.gather(*websockets_closed, *self._tasks, return_exceptions=True)
        while self._open:
            self._last_closed.clear()
            await self._last_closed.wait()

    def _connection(self, plain: _Serves, select: _Selects, *args: Any, **options: Any) -> asyncio.Protocol:
        """Make what serves a connection that a client opens.

        Args:
            plain: serves it if it cannot become a WebSocket.
            select: chooses the subprotocol if it does.
            args: of websockets, as are the `options`.
            options: see `args`.
        """
        config = self._config
        if not self._places.free:
            return Refusing()

        def websocket() -> ListeningConnection:
            return ListeningConnection(
                *args,
                select=select,
                max_message_rate=config.max_message_rate,
                max_unsent_bytes=config.max_unsent_bytes,
                on_opened=self._enter,
                on_closed=self._leave,
                **options,
            )

        return Door(
            websocket,
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), partial(self._begin, plain)),
            timeout=config.start_timeout,
            # Not before: one whose TLS handshake fails is never told that it is closed.
            on_opened=self._enter,
            on_left=self._leave,
        )

    def _begin(self, serve: _Serves, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection that is no WebSocket, on a task of its own."""
        if not self._places.free:
            writer.transport.abort()
            return
        self._places.enter()

        def ended(task: asyncio.Task[None]) -> None:
            self._places.leave()
            self._tasks.discard(task)
            writer.transport.abort()

        task = asyncio.create_task(serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(ended)

    def _enter(self, connection: ListeningConnection | Door) -> None:
        self._places.enter()
        self._open.add(connection)

    def _leave(self, connection: ListeningConnection | Door) -> None:
        self._places.leave()
        self._open.discard(connection)
        if not self._open:
            self._last_closed.set()

    async def _open_websocket(self, port: int, protocol: str | None) -> int:
        config = self._config
        if self._tls is None:
            self._tls = config.tls

        def name(request: HttpRequest) -> str | None:
            return protocol or protocol_at(parse(request.path).path)

        async def handle(connection: ServerConnection) -> None:
            assert isinstance(connection, ListeningConnection)
            assert connection.request is not None
            socket, request = WebSocket(connection), connection.request
            spoken = name(request)
            assert spoken is not None, "a path of nobody's was let through"
            host, _ = peer_of(connection.remote_address)
            client = client_of(host, request.headers, config.proxies)
            peer = socket.peer if client == host else client
            await self._serve(socket, spoken, parse(request.path, request.headers), peer)

        async def process(connection: ServerConnection, request: HttpRequest) -> Response | None:
            spoken = name(request)
            kind = None if spoken is None else ADAPTERS.get(spoken)
            if kind is not None and kind.max_message is not None:  # nothing has been read yet
                assert isinstance(connection, ListeningConnection)
                connection.expect_large_messages(max(kind.max_message, config.max_message))
            peer = peer_of(connection.remote_address)
            answer = await self._http.answer(peer, request, spoken, pages=protocol is None)
            return answer if isinstance(answer, Response) else None

        def select(request: HttpRequest, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            """One of the protocol's if it is offered; a client that offers nothing, or only its token, gets none."""
            spoken = name(request)
            known = () if spoken is None else subprotocols(spoken)
            return next((subprotocol for subprotocol in offered if subprotocol in known), None)

        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve_plain(reader, writer, pages=protocol is None)

        unix = config.unix_socket and protocol is None
        where = {"unix": True, "path": config.unix_socket} if unix else {"host": config.host or None, "port": port}
        listener = await serve(
            handle,
            **where,
            create_connection=cast(type[ServerConnection], partial(self._connection, plain, select)),
            process_request=process,
            ssl=self._tls,
            ssl_handshake_timeout=config.start_timeout if self._tls else None,
            compression=None,  # PCM hardly shrinks, and the event loop has better things to do
            open_timeout=config.start_timeout,
            ping_interval=None,  # see `Keepalive`
            close_timeout=config.close_timeout,
            max_size=config.max_message,
            max_queue=_MAX_QUEUE,
            logger=_logger,
            server_header="parastream",
        )
        self._websocket.append(listener)
        return 0 if unix else int(listener.sockets[0].getsockname()[1])

    async def _serve_plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pages: bool) -> None:
        """Answer a request, or have it served if it brings audio."""
        config = self._config
        socket = HttpSocket(reader, writer, send_timeout=config.ping_timeout, close_timeout=config.close_timeout)
        self._asking.add(socket)
        try:
            try:
                async with asyncio.timeout(config.start_timeout):
                    request = await socket.request()
                answer = await self._http.answer(socket.address, request, None, pages=pages)
            except BadRequestError as error:
                answer = self._http.bad_request(socket.address, error.status, str(error))
            assert answer is not None, "only what websockets has read may become a WebSocket"
            if isinstance(answer, Response):
                await socket.send(answer.serialize())
                await socket.close(1000, "")
                return
        except (ConnectionClosed, TimeoutError):
            return
        finally:
            self._asking.discard(socket)
        await self._serve(socket, answer.protocol, answer.request, socket.peer)

    async def _open_tcp(self, port: int, protocol: str | None) -> int:
        config = self._config
        assert protocol is not None

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            socket = TcpSocket(reader, writer, send_timeout=config.ping_timeout, close_timeout=config.close_timeout)
            await self._serve(socket, protocol, Request(), socket.peer)

        listener = await asyncio.start_server(partial(self._begin, handle), config.host or None, port)
        self._tcp.append(listener)
        return int(listener.sockets[0].getsockname()[1])
