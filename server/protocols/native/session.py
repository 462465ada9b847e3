"""A session of the native protocol, which outlives its connections so that a client can resume it."""

from __future__ import annotations

from collections.abc import Callable

from parastream.model.hotwords import Hotwords
from parastream.server.protocols.base import Ending
from parastream.server.sessions.outbox import Outbox
from parastream.server.sessions.transcription import Deliver, Progress, State, Transcription, with_hotwords
from parastream.server.wire import messages
from parastream.server.wire.messages import ClientMessage, Event, Final, Flush, Partial, SetHotwords, Start, Stop
from parastream.server.wire.refusals import RefusalError

Begin = Callable[[Start, Deliver, str], Transcription]
"""`Admission.begin`."""


class Connected:
    """What a session tells the handler of its connection."""

    def changed(self) -> None:
        """Note that there is something to send, or that the session has ended."""

    def progressed(self) -> None:
        """Note that the backlog has shrunk."""


NOBODY = Connected()
"""Stands for the handler while there is no connection."""


class NativeSession:
    """One transcription, and its events on their way to the client.

    However a session fails, audio that was accepted is recognised first: the input ends, the finals go out, then the
    error, then the connection closes.
    """

    def __init__(
        self,
        name: str,
        start: Start,
        begin: Begin,
        *,
        max_unsent: int,
        opened: float = 0.0,
        expected: Hotwords = (),
    ) -> None:
        """Begin. Raises `RefusalError` when `begin` does.

        Args:
            name: whoever knows it can resume the session.
            start: what the client asked for.
            begin: makes the transcription.
            max_unsent: events that may wait for the client; as many are kept after they were sent.
            opened: when the session begins, in seconds of a monotonic clock.
            expected: hotwords that are listened for in all sessions.
        """
        self.name = name
        self.opened = opened
        self._expected = expected
        self.connected: Connected = NOBODY
        self.ending: Ending | None = None
        """Close code and reason, once the last event is in the outbox."""
        self.aborted = False
        """Whether events were dropped to end at once."""
        self._outbox: Outbox[Event] = Outbox(max_unsent, replay=max_unsent)
        self.transcription = begin(start, self._deliver, name[:8])
        self.transcription.on_drained = lambda: self.connected.progressed()

    @property
    def listening(self) -> bool:
        """Whether audio is accepted."""
        return self.transcription.state is State.LISTENING

    # what the client sends

    def hear(self, audio: bytes) -> None:
        """Take audio. Raises `RefusalError` after `stop`."""
        if not self.listening:
            raise RefusalError("unexpected_message", "audio after `stop`", ())
        self.transcription.send(audio)

    def obey(self, message: ClientMessage) -> None:
        """Do what a message says. Raises `RefusalError` when it has no place here."""
        match message:
            case Stop():
                self.transcription.end()
            case Flush() if self.listening:
                self.transcription.flush()
            case SetHotwords() if self.listening:
                self.transcription.expect(with_hotwords(self._expected, message.hotwords))
            case Flush() | SetHotwords():
                raise RefusalError("unexpected_message", f"`{messages.type_of(message)}` after `stop`", ())
            case _:
                where = f"`{messages.type_of(message)}` in a session that has begun"
                raise RefusalError("unexpected_message", where, ("flush", "hotwords", "stop"))

    @property
    def deaf(self) -> bool:
        """Whether messages are ignored: they were sent before the client could know of the failure."""
        return self.transcription.failure is not None or self.transcription.state is State.ENDED

    def fail(self, refusal: RefusalError) -> None:
        """End the input; the error follows when all audio accepted has been recognised."""
        self.transcription.fail(refusal)

    def abort(self, refusal: RefusalError) -> None:
        """End the session at once, with nothing but the error left to send."""
        if self.ending is None:
            self._outbox.clear()
            self.aborted = True
            self.transcription.abort(refusal)

    # what comes of it

    def _deliver(self, event: Event | Progress) -> None:
        if isinstance(event, Progress):
            self.connected.progressed()
            return
        self._outbox.put(event, key=event.utterance if isinstance(event, Partial | Final) else None)
        match event:
            case messages.Done():
                self.ending = Ending(1000)
            case messages.Error() if event.code in messages.CLOSE_CODES:
                refusal = RefusalError(event.code, event.message)
                self.ending = Ending(refusal.close_code, refusal.close_reason)
            case _ if self._outbox.overflowing:
                self.abort(RefusalError("slow_client", "too many events wait for the client to read them"))
        self.connected.changed()

    def take(self) -> Event | None:
        """Return the next event to send, with its number, or None."""
        taken = self._outbox.take()
        return None if taken is None else messages.numbered(taken[1], taken[0])

    def rewind(self, received: int) -> None:
        """Go on after event `received` of a client that lost its connection. Raises `RefusalError`."""
        self._outbox.rewind(received)
