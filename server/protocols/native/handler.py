"""The native protocol `parastream.v1` on one connection: begins or resumes a session, then passes messages on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from unicodedata import normalize

from parastream.server.protocols.base import Ending, Handler, Request
from parastream.server.protocols.native.decoding import decode, opening
from parastream.server.protocols.native.registry import Registry
from parastream.server.protocols.native.session import NOBODY, Connected, NativeSession
from parastream.server.sessions.outbox import Outbox
from parastream.server.wire import messages
from parastream.server.wire.messages import ServerMessage, Start
from parastream.server.wire.refusals import RefusalError, printable

logger = logging.getLogger("parastream.server")

_ACKNOWLEDGE_BYTES = 1 << 16
"""Audio is acknowledged at the latest after this much, so that fast clients need not keep more."""

_LEAST_STATS = 0.1
"""Seconds between statistics, however often a client wants them."""


@dataclass(frozen=True)
class NativeSettings:
    """What a handler needs to know of the server. Times in seconds."""

    start_timeout: float
    acknowledge_interval: float
    heartbeat: float
    """The server is never silent for longer."""
    resume_window: float


class NativeHandler(Handler, Connected):
    """One connection. Until the first message it has no session; a resume on another connection takes it away."""

    only_audio_counts: ClassVar[bool] = True

    def __init__(
        self,
        registry: Registry,
        settings: NativeSettings,
        clock: Callable[[], float],
        *,
        peer: str,
        request: Request = Request(),
    ) -> None:
        """Wait for a first message.

        Args:
            registry: where sessions are.
            settings: the server's.
            clock: seconds; the same as that of `tick`.
            peer: the client's address, for the log.
            request: what opened the connection.
        """
        super().__init__(peer)
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._peer = peer
        self._room = request.get("room")  # by which a balancer has chosen this server
        self._session: NativeSession | None = None
        self._outbox: Outbox[ServerMessage] = Outbox(4)  # besides events: one of each kind
        self._deadline = clock() + settings.start_timeout
        self._acknowledged = 0  # bytes
        self._told = self._reported = 0.0  # when the client was last told of its audio, and got statistics

    # the first message

    def _open(self, data: str | bytes) -> None:
        message = opening(data)
        if isinstance(message, Start):
            if self._room and normalize("NFC", self._room) != message.room:
                raise RefusalError(
                    "invalid_message",
                    f"the address says `room={self._room}`; `room` must be the same - at `$.room`",
                    (self._room,),
                )
            session = self._registry.open(message)
            room = f", room {message.room}" if message.room else ""
            logger.info("session %.8s: opened by %s%s", session.name, self._peer, room)
        else:
            session = self._registry.resume(message.session, message.received)
            logger.info("session %.8s: resumed by %s", session.name, self._peer)
        earlier, session.connected = session.connected, self
        if isinstance(earlier, NativeHandler):
            earlier._let_go()
        self._session = session
        self.name = f"session {session.name[:8]}"
        self.opened = session.opened
        self._acknowledged = session.transcription.accepted
        self._told = self._reported = self._clock()
        self._send(self._ready(session))
        self.on_reschedule()

    def _ready(self, session: NativeSession) -> messages.Ready:
        start = session.transcription.start
        return messages.Ready(
            session=session.name,
            protocol=messages.PROTOCOL,
            model=self._registry.admission.model,
            format=start.format,
            rate=start.rate,
            channels=start.channels,
            channel=start.channel,
            acknowledged=session.transcription.accepted,
            heartbeat=self._settings.heartbeat,
            resume_window=self._settings.resume_window,
            flushes=session.transcription.flushes,
            languages=self._registry.admission.languages,
            ears=self._registry.admission.ears,
            instance=self._registry.instance,
        )

    def _let_go(self) -> None:
        """Leave the session to another connection."""
        self._session = None
        self._outbox.clear()
        self._ending = Ending(1008, "the session went on with another connection")
        self._aborted = True
        self.on_change()

    # from the session

    def changed(self) -> None:
        """See `Connected`."""
        self.on_change()

    def progressed(self) -> None:
        """See `Connected`."""
        self.on_progress()

    # for the connection

    @property
    def ending(self) -> Ending | None:
        """See `Handler`."""
        return self._ending if self._session is None else self._session.ending

    @property
    def aborted(self) -> bool:
        """See `Handler`."""
        return self._aborted if self._session is None else self._session.aborted

    @property
    def listening(self) -> bool:
        """Whether audio is accepted."""
        return self._session is not None and self._session.listening

    @property
    def backlog(self) -> float:
        """See `Handler`."""
        return 0.0 if self._session is None else self._session.transcription.backlog

    def receive(self, data: str | bytes) -> None:
        """See `Handler`."""
        session = self._session
        if self.ending is not None or (session is not None and session.deaf):
            return
        try:
            if session is None:
                self._open(data)
            elif isinstance(data, bytes):
                session.hear(data)
                if session.transcription.accepted - self._acknowledged >= _ACKNOWLEDGE_BYTES:
                    self._acknowledge(session, self._clock())
            else:
                session.obey(decode(data))
        except RefusalError as refusal:
            self.fail(refusal)

    def take(self) -> bytes | None:
        """See `Handler`."""
        taken = self._outbox.take()
        message = taken[1] if taken is not None else self._session.take() if self._session is not None else None
        return None if message is None else messages.encode(message)

    def tick(self, now: float) -> float:
        """See `Handler`."""
        session = self._session
        if session is None:
            if now >= self._deadline and self._ending is None:
                self.fail(RefusalError("start_timeout", f"no `start` within {self._settings.start_timeout:g} s"))
            return self._deadline if self._ending is None else math.inf
        every, quiet = session.transcription.start.stats, now - self._told
        if every:
            every = max(every, _LEAST_STATS)
        owed = session.transcription.accepted > self._acknowledged
        if quiet >= (self._settings.acknowledge_interval if owed else self._settings.heartbeat):
            self._acknowledge(session, now)
        if every and now - self._reported >= every:
            self._reported = now
            transcription = session.transcription
            self._send(messages.Stats(round(transcription.seconds, 3), round(transcription.backlog, 3)))
        # Nothing calls when audio comes, so it is looked for now and then.
        due = min(now + self._settings.acknowledge_interval, self._told + self._settings.heartbeat)
        return min(due, self._reported + every) if every else due

    def _acknowledge(self, session: NativeSession, now: float) -> None:
        self._acknowledged, self._told = session.transcription.accepted, now
        self._send(messages.Acknowledged(self._acknowledged))

    def _send(self, message: messages.Ready | messages.Acknowledged | messages.Stats | messages.Error) -> None:
        self._outbox.put(message, key=type(message))
        self.on_change()

    def fail(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        if self._session is not None:
            self._session.fail(refusal)
        elif self._ending is None:
            self._registry.admission.refuse(self._peer, refusal)
            self._ending = Ending(refusal.close_code, refusal.close_reason)
            self._send(refusal.error)
        self.on_change()

    def abort(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        if self._session is not None:
            self._session.abort(refusal)
        else:
            self.fail(refusal)

    def lost(self, *, finished: bool, why: str) -> None:
        """See `Handler`."""
        session, self._session = self._session, None
        if session is None:
            return
        session.connected = NOBODY
        if finished or not session.transcription.accepted:  # there is nothing to lose, and a place to win
            self._registry.remove(session)
        else:
            logger.info(
                "session %.8s: connection broke (%s), waiting for the client to resume", session.name, printable(why)
            )
            self._registry.release(session)
