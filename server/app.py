"""The server: puts the rooms of `parastream.server` together, and keeps their life cycle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from parastream.model.errors import ReplacementError
from parastream.model.replacements import Replacements
from parastream.server.announcement import Announcement
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.http.answers import HttpAnswers
from parastream.server.listeners import Listeners
from parastream.server.metrics import Metrics
from parastream.server.protocols.base import Handler, Request
from parastream.server.protocols.native.handler import NativeHandler, NativeSettings
from parastream.server.protocols.native.registry import Registry
from parastream.server.rooms.rooms import Rooms
from parastream.server.rooms.saving import Saving
from parastream.server.rooms.viewer import Viewer
from parastream.server.routes import ADAPTERS, NATIVE, POSTED, ROOM, TCP_ADAPTERS, room_at
from parastream.server.sessions.admission import SHUTTING_DOWN, Admission
from parastream.server.sessions.observer import MetricsObserver
from parastream.server.sessions.recogniser import Recogniser, engine_config
from parastream.server.sessions.wording import Wording
from parastream.server.transport.connection import Connection, Socket
from parastream.server.transport.ticker import Ticker
from parastream.server.wire.messages import STREAM_PATH, Ear
from parastream.streaming import Engine, Models
from parastream.streaming.observer import LoggingObserver

logger = logging.getLogger("parastream.server")


class Server:
    """Serves an engine on one address; `start`, then `serve_forever` or anything else, then `close`."""

    def __init__(self, engine: Recogniser, config: ServerConfig, metrics: Metrics | None = None) -> None:
        """Make a server that does not listen yet.

        Args:
            engine: Transcribes; whoever made it starts and closes it.
            config: The server's settings.
            metrics: What `/metrics` shows; new ones if left out.
        """
        self.engine = engine
        self.config = config
        self.port = config.port
        """The port that the server listens on; known after `start` if the configuration leaves it open."""
        self.ports: dict[str, int] = {}
        """Ports of protocols that have one of their own, known after `start`."""
        metrics = metrics or Metrics()
        clock = time.monotonic  # the event loop's clock, too
        self._rooms = Rooms(
            clock,
            heartbeat=config.ping_interval,
            linger=config.room_linger,
            max_rooms=config.max_rooms,
            max_viewers=config.max_viewers,
        )
        self._saving = _saving(config.save) if config.save else None
        self._announcement = Announcement(config.announce, config.host) if config.announce else None
        listen = [self._rooms.listen] + ([self._saving.listen] if self._saving else [])
        self._admission = Admission(engine, config, metrics, self._post, listen, _wording(config))
        self._registry = Registry(
            self._admission,
            clock,
            resume_window=config.resume_window,
            max_unsent=config.max_unsent,
            instance=config.instance,
        )
        metrics.watch(
            sessions=lambda: len(self._admission),
            rooms=lambda: len(self._rooms),
            viewers=lambda: self._rooms.viewers,
            places=lambda: self._admission.places,
            engine=engine.stats,
            computing=lambda: {each.name: each.computing for each in engine.listeners} if engine.ready else {},
        )
        http = HttpAnswers(config, self._admission, self._rooms, metrics)
        self._listeners = Listeners(config, http, self._serve)
        self._connections: set[Connection] = set()
        self._native_settings = NativeSettings(
            config.start_timeout, config.acknowledge_interval, config.ping_interval, config.resume_window
        )
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop
        self._ticking: list[asyncio.Task[None]] = []

    def _post(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: the certificate cannot be used.
            OSError: an address cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self.port = await self._listeners.open(self.config.port)
            for protocol, port in self.config.own_ports.items():
                self.ports[protocol] = await self._listeners.open(port, protocol)
        except OSError:
            await self._listeners.close()
            raise
        if self._announcement is not None:
            self._announcement.open(self.ports["wyoming"])
        expiries = Ticker(self._registry.tick)
        self._registry.on_reschedule = expiries.wake
        self._ticking = [asyncio.create_task(ticker.run()) for ticker in (expiries, Ticker(self._rooms.tick))]

    def reload_certificate(self) -> None:
        """Read the certificate for TLS again, as after its renewal. One that cannot be used changes nothing."""
        try:
            self._listeners.reload_certificate()
        except ConfigError as error:
            logger.error("the certificate was not replaced: %s", error)

    @property
    def ears(self) -> tuple[Ear, ...]:
        """The models that listen. Raises `RefusalError` before they are loaded."""
        return self._admission.ears

    @property
    def url(self) -> str:
        """Where clients of this machine connect."""
        if self.config.unix_socket:
            return f"unix:{self.config.unix_socket}"
        host = self.config.host
        if host in ("", "0.0.0.0", "::"):
            host = "localhost"
        scheme = "wss" if self.config.tls_cert else "ws"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{STREAM_PATH}"

    @property
    def page_url(self) -> str:
        """Where browsers of this machine find the page of speakers."""
        if self.config.unix_socket:
            return self.url
        return "http" + self.url.removeprefix("ws").removesuffix(STREAM_PATH) + "/"

    async def serve_forever(self) -> None:
        """Wait until the server has been closed."""
        await self._listeners.wait_closed()

    async def close(self) -> None:
        """Drain: accept nothing more, end every session, send what they still have to say, close.

        Takes `drain_timeout` at the longest, and then `close_timeout` for clients that do not answer.
        """
        # Those, too, whose clients are gone: their last words may have to be saved.
        finished = asyncio.Event()
        self._admission.on_empty = finished.set
        if not len(self._admission):
            finished.set()
        self._admission.drain()
        self._registry.close()
        for connection in list(self._connections):
            connection.handler.fail(SHUTTING_DOWN)  # those that have nothing to recognise
        await self._listeners.close()
        closed = asyncio.gather(self._listeners.wait_closed(), finished.wait())
        await asyncio.wait([closed], timeout=self.config.drain_timeout)
        unfinished = self._admission.abort()
        if unfinished:
            logger.warning("%d sessions were not finished after %g s", len(unfinished), self.config.drain_timeout)
        for connection in list(self._connections):  # to clients that do not read
            connection.hurry()
        self._listeners.hurry()
        await closed
        if self._announcement is not None:
            await self._announcement.close()
        for ticking in self._ticking:
            ticking.cancel()
        await asyncio.gather(*self._ticking, return_exceptions=True)
        if self._saving is not None:
            await asyncio.to_thread(self._saving.close)

    async def _serve(self, socket: Socket, protocol: str, request: Request, peer: str) -> None:
        connection = Connection(socket, self._handler(protocol, request, peer), self.config)
        self._connections.add(connection)
        try:
            if self._admission.draining:  # since the connection was accepted
                connection.handler.fail(SHUTTING_DOWN)
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _handler(self, protocol: str, request: Request, peer: str) -> Handler:
        if protocol == NATIVE:
            return NativeHandler(self._registry, self._native_settings, self._clock, peer=peer, request=request)
        if protocol == ROOM:
            room = room_at(request.path)
            assert room is not None
            unsent, refuse = self.config.max_unsent, self._admission.refuse
            return Viewer(self._rooms, room, name=f"viewer {peer}", max_unsent=unsent, refuse=refuse)
        kind = ADAPTERS.get(protocol) or TCP_ADAPTERS.get(protocol) or POSTED[protocol]
        name = f"{protocol} {peer}"
        logger.info("session %s: opened", name)
        return kind(self._admission, request, name=name, max_unsent=self.config.max_unsent)


def new_engine(load: Callable[[], Models], config: ServerConfig, metrics: Metrics) -> Engine:
    """Make an engine for a server, whose metrics it feeds, and the log.

    Args:
        load: Loads the models; called on the engine's thread.
        config: The server's settings.
        metrics: The server's.
    """
    return Engine(load, engine_config(config), observers=[MetricsObserver(metrics), LoggingObserver()])


def _saving(directory: str) -> Saving:
    try:
        return Saving(Path(directory))
    except OSError as error:
        raise ConfigError(f"cannot save transcripts in {directory}: {error.strerror or error}") from error


def _wording(config: ServerConfig) -> Wording:
    if not config.replace:
        return Wording(swearing=config.profanity)
    try:
        lines = Path(config.replace).read_text("utf-8-sig").splitlines()
        return Wording(Replacements.read(lines, where=f"{config.replace}, "), config.profanity)
    except (OSError, UnicodeDecodeError, ReplacementError) as error:
        raise ConfigError(f"cannot use the rules for replacing words: {error}") from error
