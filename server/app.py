"""The server: sockets, routing, life cycle. It moves bytes and messages; recognition happens in the engine's
thread, and what messages mean is decided in `parastream.server.protocols`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
from parastream.model.errors import CapacityError, EngineError, ModelConfigError, ParastreamError
from parastream.server import messages
from parastream.server.auth import refuse_request
from parastream.server.config import ServerConfig
from parastream.server.link import Link
from parastream.server.messages import PROTOCOL, STREAM_PATH, Start
from parastream.server.metrics import Metrics
from parastream.server.protocols.native import NativeSession, opening, session_config
from parastream.server.refusal import RefusalError
from parastream.server.registry import Registry
from parastream.streaming import Engine, SessionConfig, Stream
from parastream.streaming.events import Event
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

logger = logging.getLogger("parastream.server")
_websockets_logger = logging.getLogger("parastream.server.websockets")
_websockets_logger.setLevel(logging.WARNING)  # it tells of each connection what `logger` tells of each session

CLEAN_CLOSES = (1000, 1001, 1005)
"""Close codes with which a client says that it is finished; after any other it may come back."""
_MAX_QUEUE = 4  # messages of a connection that wait to be looked at; then it is not read
PATHS = (STREAM_PATH, "/healthz", "/readyz", "/metrics", "/")


class Server:
    """Serves an engine on one address; `start`, then `serve_forever` or anything else, then `close`."""

    def __init__(self, engine: Engine, config: ServerConfig) -> None:
        self.engine = engine
        self.config = config
        self.port = config.port
        """The port that the server listens on; known after `start` if the configuration leaves it open."""
        self._registry = Registry(
            max_sessions=config.max_sessions,
            resume_window=config.resume_window,
            on_removed=self._on_removed,
        )
        self._links: dict[str, Link] = {}
        self._opening: set[ServerConnection] = set()
        self._metrics = Metrics()
        self._draining = False
        self._server: WebSocketServer | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the address cannot be had.
        """
        config = self.config
        self._server = await serve(
            self._handle,
            config.host or None,
            config.port,
            process_request=self._process_request,
            select_subprotocol=_select_subprotocol,
            compression=None,  # PCM hardly shrinks, and the event loop has better things to do
            open_timeout=config.start_timeout,
            ping_interval=None,  # see Link
            close_timeout=config.close_timeout,
            max_size=config.max_message,
            max_queue=_MAX_QUEUE,
            logger=_websockets_logger,
            server_header="parastream",
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients of this machine connect."""
        host = self.config.host
        if host in ("", "0.0.0.0", "::"):
            host = "localhost"
        return f"ws://{f'[{host}]' if ':' in host else host}:{self.port}{STREAM_PATH}"

    @property
    def _listener(self) -> WebSocketServer:
        assert self._server is not None, "the server was not started"
        return self._server

    async def serve_forever(self) -> None:
        """Wait until the server has been closed."""
        await self._listener.wait_closed()

    async def close(self) -> None:
        """Drain: accept nothing more, end every session, send what they still have to say, close.

        Takes `drain_timeout` at the longest, and then `close_timeout` for clients that do not answer.
        """
        self._draining = True
        listener = self._listener
        listener.close(close_connections=False)
        for session in self._registry.waiting:
            self._registry.remove(session)
        refusal = RefusalError("shutting_down", "the server is shutting down; no more audio is accepted")
        for session in self._registry.connected:
            session.fail(refusal)
        closing = [websocket.close(refusal.close_code, refusal.close_reason) for websocket in self._opening]
        closed = asyncio.gather(listener.wait_closed(), *closing)
        await asyncio.wait([closed], timeout=self.config.drain_timeout)
        for session in self._registry.connected:
            logger.warning("session %.8s: not finished after %g s", session.name, self.config.drain_timeout)
            session.abort(refusal)
        await closed

    # HTTP

    def _process_request(self, websocket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP requests and refuse upgrades; None lets the handshake go on."""
        path = urlsplit(request.path).path
        if path == "/":
            text = f"parastream: speech to text over WebSockets\n\nConnect to {STREAM_PATH} with {PROTOCOL}.\n"
            return websocket.respond(HTTPStatus.OK, text)
        if path == "/healthz":
            return _json(websocket, HTTPStatus.OK, {"status": "ok"})
        if path == "/readyz":
            reason = self._not_ready()
            if reason is None:
                return _json(websocket, HTTPStatus.OK, {"status": "ready", "model": self._model})
            return _json(websocket, HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not ready", "reason": reason})
        if path not in (STREAM_PATH, "/metrics"):
            error = messages.Error("unknown_path", f"there is nothing at {path}", PATHS)
            return _json(websocket, HTTPStatus.NOT_FOUND, error)
        refused = refuse_request(request.path, request.headers, self.config)
        if refused is not None:
            self._metrics.requests_refused += 1
            status, error = refused
            response = _json(websocket, status, error)
            if status is HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if path == "/metrics":
            text = self._metrics.render(sessions=len(self._registry), engine=self.engine.stats())
            return websocket.respond(HTTPStatus.OK, text)
        return None

    def _not_ready(self) -> str | None:
        if self._draining:
            return "shutting down"
        if self.engine.ready:
            return None
        try:
            self.engine.check_running()
        except EngineError as error:
            return str(error)
        return "loading the model"

    @property
    def _model(self) -> str:
        return self.engine.models.speech.name

    # WebSockets

    async def _handle(self, websocket: ServerConnection) -> None:
        try:
            link = await self._open(websocket)
        except RefusalError as refusal:
            logger.info("%s: refused: %s: %s", _peer(websocket), refusal.code, refusal.message)
            self._metrics.requests_refused += 1
            with contextlib.suppress(ConnectionClosed):
                await websocket.send(messages.encode(refusal.error), text=True)
            await websocket.close(refusal.close_code, refusal.close_reason)
        except ConnectionClosed:
            pass
        else:
            await self._serve(link)

    async def _open(self, websocket: ServerConnection) -> Link:
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
            session = self._new_session(message)
            logger.info("session %.8s: opened by %s%s", session.name, _peer(websocket), _label(message))
        else:
            session = self._registry.resume(message.session, message.received)
            self._metrics.sessions_resumed += 1
            logger.info("session %.8s: resumed by %s", session.name, _peer(websocket))
            earlier = self._links.get(session.name)
            if earlier is not None:
                earlier.replace()
        link = self._links[session.name] = Link(websocket, session, self.config)
        return link

    def _new_session(self, start: Start) -> NativeSession:
        reason = self._not_ready()
        if reason is not None:
            raise RefusalError("not_ready", f"{reason}, try again later")
        config = session_config(start, self._model, self.config.model)
        self._registry.check_capacity()
        session = NativeSession(
            self._registry.new_name(),
            start,
            config,
            max_unsent=self.config.max_unsent,
            opened=asyncio.get_running_loop().time(),
        )
        try:
            session.open(self._open_stream)
        except CapacityError as error:
            raise RefusalError("capacity", str(error)) from error
        except ModelConfigError as error:
            raise RefusalError("unsupported", str(error)) from error
        except ParastreamError as error:
            raise RefusalError("internal", str(error)) from error
        self._registry.add(session)
        self._metrics.sessions_opened += 1
        return session

    def _open_stream(self, config: SessionConfig, apply: Callable[[Sequence[Event]], None]) -> Stream:
        loop = asyncio.get_running_loop()

        def on_events(events: list[Event]) -> None:  # on the inference thread
            with contextlib.suppress(RuntimeError):  # the loop has closed, nobody listens any more
                loop.call_soon_threadsafe(apply, events)

        return self.engine.open(config, on_events)

    async def _serve(self, link: Link) -> None:
        session, websocket = link.session, link.websocket
        ready = session.ready(
            self._model,
            heartbeat=self.config.ping_interval,
            resume_window=self.config.resume_window,
        )
        try:
            await link.run(ready)
        finally:
            if self._links.get(session.name) is link:
                del self._links[session.name]
                if link.completed or websocket.close_code in CLEAN_CLOSES or self._draining:
                    self._registry.remove(session)
                else:
                    logger.info(
                        "session %.8s: connection broke (%s %s), waiting for the client to resume",
                        session.name,
                        websocket.close_code,
                        websocket.close_reason,
                    )
                    self._registry.release(session)

    def _on_removed(self, session: NativeSession) -> None:
        self._metrics.sessions_closed += 1
        self._metrics.finals += session.finals
        self._metrics.audio_seconds += session.seconds
        logger.info(
            "session %.8s: closed after %.1f s of audio, %d finals%s",
            session.name,
            session.seconds,
            session.finals,
            f" ({session.ending[1]})" if session.ending and session.ending[1] else "",
        )


def _select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The protocol if it is offered; a client that offers nothing, or only its token, gets none."""
    return Subprotocol(PROTOCOL) if PROTOCOL in offered else None


def _json(websocket: ServerConnection, status: HTTPStatus, body: object) -> Response:
    response = websocket.respond(status, msgspec.json.encode(body).decode() + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response


def _peer(websocket: ServerConnection) -> str:
    host, port = websocket.remote_address[:2]
    return f"{host}:{port}"


def _label(start: Start) -> str:
    return f", room {start.room!r}" if start.room else ""
