"""The ports of a server: what comes in on each is answered, or becomes a socket that has a handler."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar, cast

from parastream.server.config import UNIX, ServerConfig
from parastream.server.http.answers import HttpAnswers
from parastream.server.http.auth import client_of
from parastream.server.protocols.base import Request
from parastream.server.routes import ADAPTERS, TCP_ADAPTERS, parse, protocol_at, subprotocols
from parastream.server.transport.connection import Socket
from parastream.server.transport.files import Places, Refusing, most_connections
from parastream.server.transport.http import BadRequestError, Door, HttpSocket
from parastream.server.transport.peers import Peer, within
from parastream.server.transport.proxied import Header, Waiting
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

_Serves = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Peer | None], Coroutine[Any, Any, None]]
"""Serves a connection, given who has opened it, if a proxy has said so."""
S = TypeVar("S", bound=TcpSocket)
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
        self._open: set[ListeningConnection | Door | Header] = set()
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

    def _connection(self, plain: _Serves, select: _Selects, *args: Any, **options: Any) -> asyncio.BaseProtocol:
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

        def websocket(peer: Peer | None) -> ListeningConnection:
            return ListeningConnection(
                *args,
                peer=peer,
                select=select,
                refuse=self._http.bad_request,
                max_message_rate=config.max_message_rate,
                max_unsent_bytes=config.max_unsent_bytes,
                on_opened=self._enter,
                on_closed=self._leave,
                **options,
            )

        def door(peer: Peer | None) -> Door:
            return Door(
                partial(websocket, peer),
                partial(self._streams, plain, peer),
                timeout=config.start_timeout,
                # Not before: one whose TLS handshake fails is never told that it is closed.
                on_opened=self._enter,
                on_left=self._leave,
            )

        return self._introduced(door, self._tls)

    def _introduced(
        self, protocol: Callable[[Peer | None], asyncio.Protocol], tls: ssl.SSLContext | None
    ) -> asyncio.BaseProtocol:
        """Make what serves a connection, or what reads first who has opened it, where a proxy may say so.

        Args:
            protocol: Makes the protocol that serves it, given who has opened it.
            tls: What the connection is encrypted with after that.
        """
        config = self._config
        if not config.proxy_protocol:
            return protocol(None)

        networks = [proxy for proxy in config.proxy_protocol if proxy != UNIX]

        def expected(peer: Peer) -> bool:
            host, _ = peer
            return within(host, networks) if host else UNIX in config.proxy_protocol

        def pass_on(header: Header, peer: Peer) -> None:
            if tls is None:
                header.leave()
                Waiting().pass_on(header.transport, protocol(peer))
            else:
                task = asyncio.create_task(self._encrypt(header, tls, partial(protocol, peer)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        return Header(expected, pass_on, timeout=config.start_timeout, on_opened=self._enter, on_left=self._leave)

    async def _encrypt(self, header: Header, tls: ssl.SSLContext, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Perform the TLS handshake, which comes after the header, and pass the connection on."""
        waiting = Waiting()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                header.transport, waiting, tls, server_side=True, ssl_handshake_timeout=self._config.start_timeout
            )
        except OSError:
            return  # as without a header: who cannot speak TLS is closed, and nobody told
        finally:
            header.leave()
        assert transport is not None
        waiting.pass_on(transport, protocol())

    def _streams(self, serve: _Serves, peer: Peer | None) -> asyncio.StreamReaderProtocol:
        """Make the protocol of a connection that is no WebSocket."""
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), partial(self._begin, serve, peer))

    def _begin(
        self, serve: _Serves, peer: Peer | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a connection that is no WebSocket, on a task of its own."""
        if not self._places.free:
            writer.transport.abort()
            return
        self._places.enter()

        def ended(task: asyncio.Task[None]) -> None:
            self._places.leave()
            self._tasks.discard(task)
            writer.transport.abort()

        task = asyncio.create_task(serve(reader, writer, peer))
        self._tasks.add(task)
        task.add_done_callback(ended)

    def _enter(self, connection: ListeningConnection | Door | Header) -> None:
        self._places.enter()
        self._open.add(connection)

    def _leave(self, connection: ListeningConnection | Door | Header) -> None:
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
            host, _ = connection.peer
            client = client_of(host, request.headers, config.proxies)
            peer = socket.peer if client == host else client
            await self._serve(socket, spoken, parse(request.path, request.headers), peer)

        async def process(connection: ServerConnection, request: HttpRequest) -> Response | None:
            assert isinstance(connection, ListeningConnection)
            spoken = name(request)
            kind = None if spoken is None else ADAPTERS.get(spoken)
            if kind is not None and kind.max_message is not None:  # nothing has been read yet
                connection.expect_large_messages(max(kind.max_message, config.max_message))
            answer = await self._http.answer(connection.peer, request, spoken, pages=protocol is None)
            return answer if isinstance(answer, Response) else None

        def select(request: HttpRequest, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            """One of the protocol's if it is offered; a client that offers nothing, or only its token, gets none."""
            spoken = name(request)
            known = () if spoken is None else subprotocols(spoken)
            return next((subprotocol for subprotocol in offered if subprotocol in known), None)

        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer | None) -> None:
            await self._serve_plain(self._socket(HttpSocket, reader, writer, peer), pages=protocol is None)

        tls = None if config.proxy_protocol else self._tls  # a header comes before that
        unix = config.unix_socket and protocol is None
        where = {"unix": True, "path": config.unix_socket} if unix else {"host": config.host or None, "port": port}
        listener = await serve(
            handle,
            **where,
            create_connection=cast(type[ServerConnection], partial(self._connection, plain, select)),
            process_request=process,
            ssl=tls,
            ssl_handshake_timeout=config.start_timeout if tls else None,
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

    def _socket(
        self, kind: type[S], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer | None
    ) -> S:
        config = self._config
        return kind(reader, writer, send_timeout=config.ping_timeout, close_timeout=config.close_timeout, peer=peer)

    async def _serve_plain(self, socket: HttpSocket, *, pages: bool) -> None:
        """Answer a request, or have it served if it brings audio."""
        self._asking.add(socket)
        try:
            try:
                async with asyncio.timeout(self._config.start_timeout):
                    request = await socket.request()
                if request.method in ("GET", "HEAD") and "websocket" in request.headers.get("Upgrade", "").lower():
                    raise BadRequestError(400, "a WebSocket is opened by GET without a body, in HTTP/1.1")
                answer = await self._http.answer(socket.address, request, None, pages=pages)
            except BadRequestError as error:
                answer = self._http.bad_request(socket.address, HTTPStatus(error.status), str(error))
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
        assert protocol is not None

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer | None) -> None:
            socket = self._socket(TcpSocket, reader, writer, peer)
            await self._serve(socket, protocol, Request(), socket.peer)

        listener = await asyncio.get_running_loop().create_server(
            lambda: self._introduced(partial(self._streams, handle), None), self._config.host or None, port
        )
        self._tcp.append(listener)
        return int(listener.sockets[0].getsockname()[1])
