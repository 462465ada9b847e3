"""One connection: reads, writes, slows fast clients down, and notices when the other side is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from parastream.server.config import ServerConfig
from parastream.server.protocols.native.handler import NativeSession
from parastream.server.transport.limits import Deadlines, Gate
from parastream.server.wire import messages
from parastream.server.wire.messages import ServerMessage
from parastream.server.wire.refusals import RefusalError
from websockets.exceptions import ConnectionClosed

logger = logging.getLogger("parastream.server")

ABNORMAL_CLOSURE = 1006
"""What websockets reports when no close frame came."""

_BACKLOG_POLL = 0.02
_HEARD = 0.05
"""Backlog in seconds at which everything counts as recognised: less than two frames of the VAD."""
_ACKNOWLEDGE_BYTES = 1 << 16
"""Audio is acknowledged at the latest after this much, so that fast clients need not keep more."""


class Socket(Protocol):
    """A connection of websockets, or what acts like one."""

    @property
    def close_code(self) -> int | None:
        """How it was closed."""
        ...

    @property
    def heard(self) -> float:
        """When bytes last came, on the loop's clock."""
        ...

    @property
    def transport(self) -> Any:
        """Has `abort`."""
        ...

    async def recv(self) -> str | bytes:
        """The next message. Raises `ConnectionClosed`."""
        ...

    async def send(self, message: str | bytes, *, text: bool | None = None) -> None:
        """Send; bytes as text where `text` says so. Raises `ConnectionClosed`."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close."""
        ...

    async def ping(self) -> Awaitable[Any]:
        """Ping; what is returned waits for the answer."""
        ...


class Dialogue(Protocol):
    """What a link serves: a native session or a conversation in another protocol."""

    ending: tuple[int, str] | None
    aborted: bool
    on_change: Callable[[], None]

    @property
    def listening(self) -> bool:
        """Whether audio is accepted."""
        ...

    @property
    def backlog(self) -> float:
        """Seconds of audio that have not been looked at."""
        ...

    def take(self) -> str | bytes | None:
        """The next message to send, or None; bytes are JSON text in UTF-8 if the link says so."""
        ...

    def receive(self, data: str | bytes) -> None:
        """Take a message."""
        ...

    def settle(self) -> None:
        """What was received has been looked at."""
        ...

    def fail(self, refusal: RefusalError) -> None:
        """End after what was accepted has been recognised."""
        ...

    def abort(self, refusal: RefusalError) -> None:
        """End at once."""
        ...


class Link:
    """Ties a dialogue to a connection until one of them ends or another connection takes the dialogue over."""

    def __init__(
        self,
        socket: Socket,
        dialogue: Dialogue,
        config: ServerConfig,
        *,
        name: str,
        opened: float | None = None,
        idle_timeout: float | None = None,
        lock_step: bool = False,
        pings: bool = True,
        any_message: bool = True,
    ) -> None:
        """
        Args:
            name: for the log.
            opened: when the dialogue began, on the loop's clock; None: now.
            idle_timeout: seconds; None: the configuration's.
            lock_step: settle only when everything has been looked at.
            pings: whether the connection has pings.
            any_message: whether text messages count against idleness as audio does.
        """
        now = asyncio.get_running_loop().time()
        self.socket = socket
        self.dialogue = dialogue
        self.name = name
        self.completed = False
        """The client got everything, the closing handshake included."""
        self._config = config
        self._wake = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._replaced = False
        self._gate = Gate(_HEARD, _HEARD) if lock_step else Gate(config.backlog_high, config.backlog_low)
        self._pings = pings
        self._any_message = any_message
        self._paused = False  # reading, by back-pressure
        self._unpaused = 0.0
        self._deadlines = Deadlines(
            idle_timeout or config.idle_timeout, config.max_session, now if opened is None else opened, heard=now
        )
        dialogue.on_change = self._on_change

    def replace(self) -> None:
        """Let go of the dialogue at once: another connection has it."""
        self._replaced = True
        self._interrupt.set()

    def _on_change(self) -> None:
        self._wake.set()
        if self.dialogue.aborted:  # the writer may be stuck with a client that does not read
            self._interrupt.set()

    async def run(self) -> None:
        """Serve the connection until it is closed."""
        jobs: list[Coroutine[Any, Any, Any]] = [self._write(), self._read()]
        if self._pings:
            jobs.append(self._keep_alive())
        tasks = [asyncio.create_task(job) for job in [*jobs, self._interrupt.wait()]]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
                logger.error("session %.8s: internal error", self.name, exc_info=result)
                self.dialogue.abort(RefusalError("internal", "internal error; the server's log says more"))
        await self._close()

    async def _close(self) -> None:
        try:
            if self._replaced:
                await self.socket.close(1008, "the session went on with another connection")
            elif self.dialogue.ending is not None and not self.completed:
                async with asyncio.timeout(self._config.close_timeout):
                    await self._send_waiting()
                await self._say_goodbye(self.dialogue.ending)
        except (ConnectionClosed, TimeoutError):
            self.socket.transport.abort()

    async def _say_goodbye(self, ending: tuple[int, str]) -> None:
        await self.socket.close(*ending)
        self.completed = self.socket.close_code != ABNORMAL_CLOSURE

    async def _send_waiting(self) -> None:
        while (message := self.dialogue.take()) is not None:
            await self.socket.send(message)

    async def _write(self) -> None:
        while True:
            self._wake.clear()
            await self._send_waiting()
            if self.dialogue.ending is not None:
                await self._say_goodbye(self.dialogue.ending)
                return
            await self._wake.wait()

    async def _read(self) -> None:
        dialogue, deadlines = self.dialogue, self._deadlines
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout_at(deadlines.next if dialogue.listening else None):
                    data = await self.socket.recv()
            except TimeoutError:
                dialogue.fail(deadlines.refusal)
                continue
            if self._interrupt.is_set():
                return
            dialogue.receive(data)
            self._received()
            if isinstance(data, bytes) or self._any_message:
                deadlines.heard = clock()
            await self._let_engine_catch_up()
            if isinstance(data, bytes):
                dialogue.settle()

    def _received(self) -> None:
        """A message has been taken."""

    async def _let_engine_catch_up(self) -> None:
        """Do not read while too much audio waits for the engine; TCP then slows the client down."""
        while self.dialogue.listening and self._gate.update(self.dialogue.backlog):
            self._paused = True
            await asyncio.sleep(_BACKLOG_POLL)
        if self._paused:
            self._paused = False
            self._unpaused = self._deadlines.heard = asyncio.get_running_loop().time()

    async def _keep_alive(self) -> None:
        """Ping the client; close when it does not answer, and nothing else comes from it either.

        The keepalive of websockets cannot be used, as it would take a connection that is not read for a while
        as dead, or one on which a large message is under way: the pong waits unseen behind the audio then.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._config.ping_interval)
            sent = clock()
            try:
                async with asyncio.timeout(self._config.ping_timeout):
                    await (await self.socket.ping())
            except TimeoutError:
                if not self._paused and max(self._unpaused, self.socket.heard) < sent:
                    await self.socket.close(1011, "no answer to a ping")
                    return


class NativeLink(Link):
    """A link of the native protocol: it also says what has been accepted, and how the session keeps up."""

    def __init__(self, socket: Socket, session: NativeSession, config: ServerConfig, ready: messages.Ready) -> None:
        super().__init__(socket, session, config, name=session.name, opened=session.opened, any_message=False)
        self.session = session
        self._ready = ready
        self._acknowledged = session.transcription.accepted

    async def _say(self, message: ServerMessage) -> None:
        await self.socket.send(messages.encode(message), text=True)

    async def _send_waiting(self) -> None:
        while not self._interrupted and (message := self.session.take()) is not None:
            await self.socket.send(message, text=True)

    @property
    def _interrupted(self) -> bool:
        """Whether the writer has to let go of the session's events; the last ones of an aborted session still go."""
        return self._interrupt.is_set() and not self.session.aborted

    def _received(self) -> None:
        if self.session.transcription.accepted - self._acknowledged >= _ACKNOWLEDGE_BYTES:
            self._wake.set()

    async def _write(self) -> None:
        session, clock = self.session, asyncio.get_running_loop().time
        transcription, every = session.transcription, session.transcription.start.stats
        await self._say(self._ready)
        spoke = reported = clock()
        while True:
            self._wake.clear()
            await self._send_waiting()
            if self._interrupt.is_set():
                return
            if session.ending is not None:
                await self._say_goodbye(session.ending)
                return
            unacknowledged = transcription.accepted - self._acknowledged
            quiet = clock() - spoke
            if (
                unacknowledged >= _ACKNOWLEDGE_BYTES
                or (unacknowledged and quiet >= self._config.acknowledge_interval)
                or quiet >= self._config.ping_interval
            ):
                self._acknowledged, spoke = transcription.accepted, clock()
                await self._say(messages.Acknowledged(transcription.accepted))
            if every and clock() - reported >= every:
                reported = clock()
                await self._say(session.stats())
            # Audio that comes in does not wake the writer, so it looks for it now and then.
            due = min(clock() + self._config.acknowledge_interval, spoke + self._config.ping_interval)
            if every:
                due = min(due, reported + every)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
