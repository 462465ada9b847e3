"""One connection of one session: reads, writes, and notices when the other side is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from parastream.server import messages
from parastream.server.config import ServerConfig
from parastream.server.limits import Deadlines, Gate
from parastream.server.messages import ServerMessage
from parastream.server.protocols.native import NativeSession, State
from parastream.server.refusal import RefusalError
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

logger = logging.getLogger("parastream.server")

ABNORMAL_CLOSURE = 1006
"""What websockets reports when no close frame came."""

_BACKLOG_POLL = 0.02
_ACKNOWLEDGE_BYTES = 1 << 16
"""Audio is acknowledged at the latest after this much, so that fast clients need not keep more."""


class Link:
    """Ties a session to a connection until one of them ends or another connection takes the session over."""

    def __init__(self, websocket: ServerConnection, session: NativeSession, config: ServerConfig) -> None:
        self.websocket = websocket
        self.session = session
        self.completed = False
        """The client got everything, the closing handshake included."""
        self._config = config
        self._wake = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._replaced = False
        self._acknowledged = session.accepted
        self._gate = Gate(config.backlog_high, config.backlog_low)
        self._paused = False  # reading, by back-pressure
        self._unpaused = 0.0
        now = asyncio.get_running_loop().time()
        self._deadlines = Deadlines(config.idle_timeout, config.max_session, session.opened, heard=now)
        session.on_change = self._on_change

    def replace(self) -> None:
        """Let go of the session at once: another connection has it."""
        self._replaced = True
        self._interrupt.set()

    def _on_change(self) -> None:
        self._wake.set()
        if self.session.aborted:  # the writer may be stuck with a client that does not read
            self._interrupt.set()

    async def run(self, ready: messages.Ready) -> None:
        """Serve the connection, starting with `ready`, until it is closed."""
        jobs: list[Coroutine[Any, Any, Any]] = [self._write(ready), self._read(), self._keep_alive()]
        tasks = [asyncio.create_task(job) for job in [*jobs, self._interrupt.wait()]]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
                logger.error("session %.8s: internal error", self.session.name, exc_info=result)
                self.session.abort(RefusalError("internal", "internal error; the server's log says more"))
        await self._close()

    async def _close(self) -> None:
        try:
            if self._replaced:
                await self.websocket.close(1008, "the session went on with another connection")
            elif self.session.ending is not None and not self.completed:
                async with asyncio.timeout(self._config.close_timeout):
                    while (event := self.session.outbox.take()) is not None:
                        await self._send(event)
                await self.websocket.close(*self.session.ending)
                self.completed = self.websocket.close_code != ABNORMAL_CLOSURE
        except (ConnectionClosed, TimeoutError):
            self.websocket.transport.abort()

    async def _send(self, message: ServerMessage) -> None:
        await self.websocket.send(messages.encode(message), text=True)

    async def _write(self, ready: messages.Ready) -> None:
        session, clock = self.session, asyncio.get_running_loop().time
        await self._send(ready)
        spoke = reported = clock()
        while True:
            self._wake.clear()
            while not self._interrupt.is_set() and (event := session.outbox.take()) is not None:
                await self._send(event)
            if self._interrupt.is_set():
                return
            if session.ending is not None:
                await self.websocket.close(*session.ending)
                self.completed = self.websocket.close_code != ABNORMAL_CLOSURE
                return
            unacknowledged = session.accepted - self._acknowledged
            quiet = clock() - spoke
            if (
                unacknowledged >= _ACKNOWLEDGE_BYTES
                or (unacknowledged and quiet >= self._config.acknowledge_interval)
                or quiet >= self._config.ping_interval
            ):
                self._acknowledged, spoke = session.accepted, clock()
                await self._send(messages.Acknowledged(session.accepted))
            if session.start.stats and clock() - reported >= session.start.stats:
                reported = clock()
                await self._send(session.stats())
            # Audio that comes in does not wake the writer, so it looks for it now and then.
            due = min(clock() + self._config.acknowledge_interval, spoke + self._config.ping_interval)
            if session.start.stats:
                due = min(due, reported + session.start.stats)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    async def _read(self) -> None:
        session, deadlines = self.session, self._deadlines
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout_at(deadlines.next if session.state is State.LISTENING else None):
                    data = await self.websocket.recv()
            except TimeoutError:
                session.fail(deadlines.refusal)
                continue
            if self._interrupt.is_set():
                return
            session.receive(data)
            if isinstance(data, bytes):
                deadlines.heard = clock()
                if session.accepted - self._acknowledged >= _ACKNOWLEDGE_BYTES:
                    self._wake.set()
                await self._let_engine_catch_up()

    async def _let_engine_catch_up(self) -> None:
        """Do not read while too much audio waits for the engine; TCP then slows the client down."""
        while self.session.state is State.LISTENING and self._gate.update(self.session.stream.backlog):
            self._paused = True
            await asyncio.sleep(_BACKLOG_POLL)
        if self._paused:
            self._paused = False
            self._unpaused = self._deadlines.heard = asyncio.get_running_loop().time()

    async def _keep_alive(self) -> None:
        """Ping the client; close when it does not answer.

        The keepalive of websockets cannot be used, as it would take a connection that is not read for a while
        as dead: the pong waits unseen behind the audio then.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._config.ping_interval)
            sent = clock()
            try:
                async with asyncio.timeout(self._config.ping_timeout):
                    await (await self.websocket.ping())
            except TimeoutError:
                if not self._paused and self._unpaused < sent:
                    await self.websocket.close(1011, "no answer to a ping")
                    return
