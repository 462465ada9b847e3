"""The server: sockets, routing, life cycle. It moves bytes and messages; transcription happens in the engine's
thread, and what messages mean is decided in `parastream.server.protocols`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from parastream.server.config import ServerConfig
from parastream.server.http.answers import HttpAnswers
from parastream.server.metrics import Metrics
from parastream.server.protocols.base import Adapter, Request
from parastream.server.protocols.native.handler import NativeSession, opening
from parastream.server.protocols.native.registry import Registry
from parastream.server.rooms.rooms import Rooms
from parastream.server.rooms.saving import Saving
from parastream.server.routes import (
    ADAPTERS,
    NATIVE,
    ROOM,
    TCP_ADAPTERS,
    parse,
    protocol_at,
    room_at,
    subprotocols,
)
from parastream.server.sessions.admission import SHUTTING_DOWN, Admission
from parastream.server.transport.connection import Link, NativeLink, Socket
from parastream.server.transport.tcp import TcpSocket
from parastream.server.wire import messages
from parastream.server.wire.messages import STREAM_PATH, Start
from parastream.server.wire.refusals import RefusalError, printable
from parastream.streaming import Engine
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.typing import Subprotocol

logger = logging.getLogger("parastream.server")
_websockets_logger = logging.getLogger("parastream.server.websockets")
_websockets_logger.setLevel(logging.WARNING)  # it tells of each connection what `logger` tells of each session
# Browsers open connections ahead of need, and close them unused.
_websockets_logger.addFilter(lambda record: record.getMessage() != "opening handshake failed")

CLEAN_CLOSES = (1000, 1001, 1005)
"""Close codes with which a client says that it is finished; after any other it may come back."""
_DRAIN_POLL = 0.02
_MAX_QUEUE = 4  # messages of a connection that wait to be looked at; then it is not read


class Connection(ServerConnection):
    """Knows when bytes last came, on the loop's clock."""

    heard = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        super().data_received(data)


class Server:
    """Serves an engine on one address; `start`, then `serve_forever` or anything else, then `close`."""

    def __init__(self, engine: Engine, config: ServerConfig) -> None:
        self.engine = engine
        self.config = config
        self.port = config.port
        """The port that the server listens on; known after `start` if the configuration leaves it open."""
        self.ports: dict[str, int] = {}
        """Ports of protocols that have one of their own, known after `start`."""
        self._registry = Registry(resume_window=config.resume_window)
        self._metrics = Metrics()
        self._rooms = Rooms(
            time.monotonic,
            linger=config.room_linger,
            max_rooms=config.max_rooms,
            max_viewers=config.max_viewers,
            max_unsent=config.max_unsent,
        )
        self._saving = Saving(Path(config.save)) if config.save else None
        listen = [self._rooms.listen] + ([self._saving.listen] if self._saving else [])
        self._admission = Admission(engine, config, self._metrics, self._post, listen)
        self._metrics.watch(
            sessions=lambda: len(self._admission),
            rooms=lambda: len(self._rooms),
            viewers=lambda: self._rooms.viewers,
            engine=engine.stats,
        )
        self._http = HttpAnswers(config, self._admission, self._rooms, self._metrics)
        self._links: dict[str, NativeLink] = {}  # by the session's name
        self._others: set[Link] = set()
        self._opening: set[ServerConnection] = set()
        self._listeners: list[WebSocketServer] = []
        self._tcp_listeners: list[asyncio.Server] = []
        self._tcp_tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._ticking: asyncio.Task[None]

    def _post(self, *call: object) -> None:
        self._loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: the certificate cannot be used.
            OSError: an address cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self.port = await self._listen(self.config.port, None)
            for protocol, port in self.config.own_ports.items():
                listen = self._listen_tcp if protocol in TCP_ADAPTERS else self._listen
                self.ports[protocol] = await listen(port, protocol)
        except OSError:
            for listener in self._listeners:
                listener.close()
            for tcp_listener in self._tcp_listeners:
                tcp_listener.close()
            raise
        self._ticking = asyncio.create_task(self._tick_rooms())

    async def _listen(self, port: int, protocol: str | None) -> int:
        """Listen on a port, for one protocol or for all of them by path, and return it."""
        config = self.config

        def name(request: HttpRequest) -> str:
            return protocol or protocol_at(parse(request.path).path)

        async def handle(websocket: ServerConnection) -> None:
            assert isinstance(websocket, Connection)
            assert websocket.request is not None
            await self._handle(websocket, websocket.request, name(websocket.request))

        async def process(websocket: ServerConnection, request: HttpRequest) -> Response | None:
            spoken = name(request)
            kind = ADAPTERS.get(spoken)
            if kind is not None and kind.max_message is not None:  # nothing has been read yet
                websocket.protocol.max_message_size = max(kind.max_message, config.max_message)
            return await self._http.answer(websocket, request, spoken, pages=protocol is None)

        def select(websocket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            """One of the protocol's if it is offered; a client that offers nothing, or only its token, gets none."""
            assert websocket.request is not None
            known = subprotocols(name(websocket.request))
            return next((subprotocol for subprotocol in offered if subprotocol in known), None)

        listener = await serve(
            handle,
            config.host or None,
            port,
            create_connection=Connection,
            process_request=process,
            select_subprotocol=select,
            ssl=config.tls,
            compression=None,  # PCM hardly shrinks, and the event loop has better things to do
            open_timeout=config.start_timeout,
            ping_interval=None,  # see Link
            close_timeout=config.close_timeout,
            max_size=config.max_message,
            max_queue=_MAX_QUEUE,
            logger=_websockets_logger,
            server_header="parastream",
        )
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def _listen_tcp(self, port: int, protocol: str) -> int:
        """Listen on a port for a protocol that is not a WebSocket, and return it."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            config, task = self.config, asyncio.current_task()
            socket = TcpSocket(reader, writer, send_timeout=config.ping_timeout, close_timeout=config.close_timeout)
            assert task is not None
            self._tcp_tasks.add(task)
            try:
                kind = TCP_ADAPTERS[protocol]
                await self._converse(socket, kind, Request(), f"{protocol} {socket.peer}", pings=False)
            finally:
                self._tcp_tasks.discard(task)
                writer.transport.abort()

        listener = await asyncio.start_server(handle, self.config.host or None, port)
        self._tcp_listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients of this machine connect."""
        host = self.config.host
        if host in ("", "0.0.0.0", "::"):
            host = "localhost"
        scheme = "wss" if self.config.tls_cert else "ws"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{STREAM_PATH}"

    @property
    def page_url(self) -> str:
        """Where browsers of this machine find the page of speakers."""
        return "http" + self.url.removeprefix("ws").removesuffix(STREAM_PATH) + "/"

    async def serve_forever(self) -> None:
        """Wait until the server has been closed."""
        await asyncio.gather(*(listener.wait_closed() for listener in self._listeners))

    async def close(self) -> None:
        """Drain: accept nothing more, end every session, send what they still have to say, close.

        Takes `drain_timeout` at the longest, and then `close_timeout` for clients that do not answer.
        """
        self._admission.drain()
        for listener in self._listeners:
            listener.close(close_connections=False)
        for tcp_listener in self._tcp_listeners:
            tcp_listener.close()
        for session in self._registry.waiting:
            self._registry.remove(session)
        for link in [*self._links.values(), *self._others]:
            link.dialogue.fail(SHUTTING_DOWN)  # those that have nothing to recognise
        code, reason = SHUTTING_DOWN.close_code, SHUTTING_DOWN.close_reason
        closing = [websocket.close(code, reason) for websocket in self._opening]
        websockets_closed = (listener.wait_closed() for listener in self._listeners)
        finished = self._finish_transcriptions()
        closed = asyncio.gather(*websockets_closed, *self._tcp_tasks, *closing, finished, return_exceptions=True)
        await asyncio.wait([closed], timeout=self.config.drain_timeout)
        unfinished = self._admission.abort()
        if unfinished:
            logger.warning("%d sessions were not finished after %g s", len(unfinished), self.config.drain_timeout)
        await closed
        self._ticking.cancel()
        if self._saving is not None:
            await asyncio.to_thread(self._saving.close)

    async def _finish_transcriptions(self) -> None:
        """Wait for those, too, whose clients are gone: their last words may have to be saved."""
        while len(self._admission):
            await asyncio.sleep(_DRAIN_POLL)

    async def _tick_rooms(self) -> None:
        while True:
            await asyncio.sleep(self.config.ping_interval)
            self._rooms.tick()

    # WebSockets

    async def _handle(self, websocket: Connection, request: HttpRequest, protocol: str) -> None:
        if protocol == ROOM:
            await self._show_room(websocket, request)
            return
        if protocol != NATIVE:
            kind = ADAPTERS[protocol]
            await self._converse(websocket, kind, parse(request.path), f"{protocol} {_peer(websocket)}")
            return
        try:
            session = await self._open(websocket)
        except RefusalError as refusal:
            await self._refuse(websocket, refusal)
        except ConnectionClosed:
            pass
        else:
            await self._serve(websocket, session)

    async def _refuse(self, websocket: ServerConnection, refusal: RefusalError) -> None:
        logger.info("%s: refused: %s: %s", _peer(websocket), refusal.code, refusal)
        self._metrics.requests_refused.inc()
        with contextlib.suppress(ConnectionClosed):
            await websocket.send(messages.encode(refusal.error), text=True)
        await websocket.close(refusal.close_code, refusal.close_reason)

    async def _show_room(self, websocket: Connection, request: HttpRequest) -> None:
        """Serve a viewer of a caption room."""
        name = room_at(parse(request.path).path)
        assert name is not None
        try:
            room, viewer = self._rooms.watch(name)
        except RefusalError as refusal:
            await self._refuse(websocket, refusal)
            return
        try:
            await self._run(Link(websocket, viewer, self.config, name=f"viewer {_peer(websocket)}"))
        finally:
            room.leave(viewer)

    async def _run(self, link: Link) -> None:
        """Serve a connection that is all that its dialogue has."""
        self._others.add(link)
        try:
            if self._admission.draining:  # since the connection was accepted
                link.dialogue.fail(SHUTTING_DOWN)
            await link.run()
        finally:
            self._others.discard(link)

    async def _converse(
        self, socket: Socket, kind: type[Adapter], request: Request, name: str, *, pings: bool = True
    ) -> None:
        """Serve a connection in the protocol of another server."""
        conversation = kind(self._admission, request, name=name, max_unsent=self.config.max_unsent)
        logger.info("session %s: opened", name)
        link = Link(
            socket,
            conversation,
            self.config,
            name=name,
            idle_timeout=kind.idle_timeout,
            lock_step=kind.lock_step,
            pings=pings,
        )
        try:
            conversation.start()
            await self._run(link)
        finally:
            conversation.leave()

    async def _open(self, websocket: ServerConnection) -> NativeSession:
        """Read the first message and find or make its session.

        Raises:
            RefusalError: the client asks for something that it cannot have.
            ConnectionClosed: the client went away.
        """
        self._opening.add(websocket)
        try:
            data = await asyncio.wait_for(websocket.recv(), self.config.start_timeout)
        except TimeoutError:
            raise RefusalError("start_timeout", f"no `start` within {self.config.start_timeout:g} s") from None
        finally:
            self._opening.discard(websocket)
        message = opening(data)
        if isinstance(message, Start):
            session = NativeSession(
                self._registry.new_name(),
                message,
                self._admission.begin,
                max_unsent=self.config.max_unsent,
                opened=self._loop.time(),
            )
            self._registry.add(session)
            room = f", room {message.room}" if message.room else ""
            logger.info("session %.8s: opened by %s%s", session.name, _peer(websocket), room)
        else:
            session = self._registry.resume(message.session, message.received)
            self._metrics.sessions_resumed.inc()
            logger.info("session %.8s: resumed by %s", session.name, _peer(websocket))
            earlier = self._links.get(session.name)
            if earlier is not None:
                earlier.replace()
        return session

    async def _serve(self, websocket: Connection, session: NativeSession) -> None:
        ready = session.ready(
            self._admission.model,
            heartbeat=self.config.ping_interval,
            resume_window=self.config.resume_window,
        )
        link = self._links[session.name] = NativeLink(websocket, session, self.config, ready)
        try:
            await link.run()
        finally:
            if self._links.get(session.name) is link:
                del self._links[session.name]
                if link.completed or websocket.close_code in CLEAN_CLOSES or self._admission.draining:
                    self._registry.remove(session)
                else:
                    logger.info(
                        "session %.8s: connection broke (%s %s), waiting for the client to resume",
                        session.name,
                        websocket.close_code,
                        printable(websocket.close_reason or ""),
                    )
                    self._registry.release(session)


def _peer(websocket: ServerConnection) -> str:
    host, port = websocket.remote_address[:2]
    return f"{host}:{port}"
