"""One connection: reads, writes, slows fast clients down, and notices when the other side is gone."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from parastream.server.config import ServerConfig
from parastream.server.protocols.base import Handler
from parastream.server.transport.limits import Budget, Deadlines, Gate, Keepalive, Pulse
from parastream.server.transport.ticker import Ticker
from parastream.server.wire.messages import ErrorCode
from parastream.server.wire.refusals import INTERNAL, RefusalError
from websockets.exceptions import ConnectionClosed

logger = logging.getLogger("parastream.server")

T = TypeVar("T")

_BROKEN_RULES: dict[int, tuple[ErrorCode, str]] = {
    1002: ("invalid_message", "a frame breaks the rules of WebSockets"),
    1007: ("invalid_message", "a message is not text"),
    1009: ("too_large", "a message is too large"),
}
"""What has happened, by the code with which a WebSocket closes by itself."""
_CLEAN_CLOSES = (1000, 1001, 1005)
"""Close codes with which a client says that it has finished; after any other it may come back."""


class Socket(Protocol):
    """What a `Connection` moves messages through: a WebSocket, or a TCP connection."""

    @property
    def pings(self) -> bool:
        """Whether there are pings."""
        ...

    @property
    def heard(self) -> float:
        """When bytes last came, on the loop's clock."""
        ...

    @property
    def closed(self) -> tuple[int | None, str]:
        """Code and reason with which it was closed; the code is None while it is open."""
        ...

    async def recv(self) -> str | bytes | None:
        """Return the next message; None if the client sends nothing more, but reads on. Raises `ConnectionClosed`.

        Raises:
            RefusalError: what comes cannot be read, but the client can be told.
        """
        ...

    async def gone(self) -> None:
        """Wait until the client, which sends nothing more, is gone."""
        ...

    async def send(self, message: bytes) -> None:
        """Send a message. Raises `ConnectionClosed`."""
        ...

    async def ping(self) -> None:
        """Send a ping. Raises `ConnectionClosed`."""
        ...

    async def close(self, code: int, reason: str) -> bool:
        """Close, and say whether the client completed that."""
        ...

    def abort(self) -> None:
        """Drop the connection."""
        ...


class Connection:
    """Serves a handler over a socket until one of them ends."""

    def __init__(self, socket: Socket, handler: Handler, config: ServerConfig) -> None:
        self.handler = handler
        self._socket = socket
        self._config = config
        self._completed = False  # the client got everything, the closing handshake included
        self._hopeless = ""  # why nothing more can be said to the client
        self._bugs = 0
        self._ping_due = False
        self._outgoing = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._gate = Gate(config.backlog_high, config.backlog_low)
        now = asyncio.get_running_loop().time()
        self._opened = now
        self._unpaused = now
        idle_timeout = handler.idle_timeout or handler.patience * config.idle_timeout
        self._deadlines = Deadlines(idle_timeout, config.max_session, now)
        self._keepalive = Keepalive(config.ping_interval, config.ping_timeout, now + config.ping_interval)
        self._budget = Budget(config.max_message_rate, now)
        self._ticker = Ticker(self._tick)
        handler.on_change = self._on_change
        handler.on_progress = self._on_progress
        handler.on_reschedule = self._ticker.wake

    async def run(self) -> None:
        """Serve the connection until it is closed, and tell the handler that it is."""
        try:
            self._guarded(self.handler.start)
            await self._run()
        finally:
            code, reason = self._socket.closed
            finished = self._completed or code in _CLEAN_CLOSES
            why = f"{code} {reason}".strip()
            self._guarded(partial(self.handler.lost, finished=finished, why=why))

    def _guarded(self, call: Callable[[], T]) -> T | None:
        """Call the handler. A bug in it ends this connection: its accepted audio is recognised, then the error follows.

        Raises:
            Exception: not even that was possible.
        """
        try:
            return call()
        except Exception:
            logger.exception("%s: internal error", self.handler.name)
            self._bugs += 1
            if self._bugs > 2:
                raise
            end = self.handler.fail if self._bugs == 1 else self.handler.abort
            self._guarded(partial(end, INTERNAL))
            return None

    def hurry(self) -> None:
        """Send what is left within `close_timeout`, and drop a client that does not take it."""
        self._interrupted.set()

    async def _run(self) -> None:
        jobs: tuple[Coroutine[Any, Any, Any], ...] = (
            self._write(),
            self._read(),
            self._ticker.run(),
            self._interrupted.wait(),
        )
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, ConnectionClosed):
                self._complain_of_broken_rules(result)
            elif isinstance(result, Exception):
                logger.error("%s: internal error", self.handler.name, exc_info=result)
                self._hopeless = INTERNAL.close_reason
        await self._finish()

    def _complain_of_broken_rules(self, closed: ConnectionClosed) -> None:
        """Tell why a WebSocket has closed by itself, if it has."""
        ending, sent = self.handler.ending, closed.sent
        by_handler = ending is not None and sent is not None and sent.code == ending.code
        if sent is not None and sent.code in _BROKEN_RULES and not by_handler:
            code, what = _BROKEN_RULES[sent.code]
            self.handler.complain(RefusalError(code, f"{what}: {sent.reason}"))

    async def _finish(self) -> None:
        """Send what is left to say, if the client can still be told."""
        if self._hopeless:
            await self._socket.close(1011, self._hopeless)
            return
        if self.handler.ending is None or self._completed:
            return
        try:
            async with asyncio.timeout(self._config.close_timeout):
                await self._send_waiting()
            await self._say_goodbye()
        except (ConnectionClosed, TimeoutError):
            self._socket.abort()

    # out

    def _on_change(self) -> None:
        self._outgoing.set()
        if not self.handler.listening:
            self._readable.set()
        if self.handler.aborted:  # the writer may be stuck with a client that does not read
            self._interrupted.set()

    async def _write(self) -> None:
        while True:
            self._outgoing.clear()
            if self._ping_due:
                self._ping_due = False
                await self._socket.ping()
            await self._send_waiting()
            if self.handler.ending is not None:
                await self._say_goodbye()
                return
            await self._outgoing.wait()

    async def _send_waiting(self) -> None:
        bugs = self._bugs
        while (message := self._guarded(self.handler.take)) is not None or bugs != self._bugs:
            bugs = self._bugs
            if message is not None:
                await self._socket.send(message)

    async def _say_goodbye(self) -> None:
        assert self.handler.ending is not None
        self._completed = await self._socket.close(*self.handler.ending)

    # in

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            try:
                data = await self._socket.recv()
            except RefusalError as refusal:
                self._guarded(partial(self.handler.fail, refusal))
                await self._socket.gone()
                return
            if self._interrupted.is_set():
                return
            if data is None:
                self._guarded(self.handler.end_input)
                await self._socket.gone()
                return
            before = self.handler.unframed
            self._guarded(partial(self.handler.receive, data))
            self._budget.spend(self.handler.unframed - before)
            if isinstance(data, bytes) or not self.handler.only_audio_counts:
                self._deadlines.heard = clock()
            del data  # which may be large, and the next message a long time coming
            if self.handler.listening and self._gate.update(self.handler.backlog):
                # TCP slows the client down while too much audio waits for the engine.
                self._readable.clear()
                await self._readable.wait()
                self._unpaused = self._deadlines.heard = clock()
            if wait := self._budget.wait(clock()):
                await asyncio.sleep(wait)

    def _on_progress(self) -> None:
        if not self._readable.is_set() and not self._gate.update(self.handler.backlog):
            self._readable.set()

    # on time

    def _tick(self, now: float) -> float:
        next_tick = self._guarded(partial(self.handler.tick, now))
        due = [math.inf if next_tick is None else next_tick, self._check_deadlines(now)]
        if self._socket.pings:
            heard = max(self._unpaused, self._socket.heard) if self._readable.is_set() else now
            match self._keepalive.tick(now, heard):
                case Pulse.PING:
                    self._ping_due = True
                    self._outgoing.set()
                case Pulse.BROKEN:
                    self._hopeless = "no answer to a ping"
                    self._interrupted.set()
            due.append(self._keepalive.next)
        return min(due)

    def _check_deadlines(self, now: float) -> float:
        if not self.handler.listening or not self._readable.is_set():
            return now + self._deadlines.idle_timeout  # it cannot be idle for longer before then
        opened = self._opened if self.handler.opened is None else self.handler.opened
        if self._deadlines.passed(opened, now):
            self.handler.fail(self._deadlines.refusal(opened))
            return now + self._deadlines.idle_timeout
        return self._deadlines.next(opened)
