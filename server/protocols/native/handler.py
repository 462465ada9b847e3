"""The native protocol `parastream.v1` as a pure mapping: messages to calls of a transcription, its events to an outbox.

No sockets, clocks or tasks here: `parastream.server.app` moves the bytes. A `NativeSession` outlives its
connections, so that a client can resume it.
"""

from __future__ import annotations

from collections.abc import Callable

from parastream.server.sessions.outbox import Outbox
from parastream.server.sessions.transcription import Deliver, State, Transcription
from parastream.server.wire import messages
from parastream.server.wire.explain import Reader
from parastream.server.wire.messages import ClientMessage, Event, Flush, Resume, Start, Stop
from parastream.server.wire.refusals import RefusalError

_reader = Reader[ClientMessage](ClientMessage)

Begin = Callable[[Start, Deliver, str], Transcription]
"""`Admission.begin`."""


def decode(text: str) -> ClientMessage:
    """Read a text frame of a client.

    Raises:
        RefusalError: `invalid_json`, or `invalid_message` with the place and what is allowed there.
    """
    return _reader.read(text)


def opening(data: str | bytes) -> Start | Resume:
    """Read the first message of a connection.

    Raises:
        RefusalError: it is neither `start` nor `resume`.
    """
    if isinstance(data, bytes):
        raise RefusalError("unexpected_message", "audio before `start`", ("start", "resume"))
    message = decode(data)
    if not isinstance(message, Start | Resume):
        raise RefusalError("unexpected_message", f"`{_name(message)}` before `start`", ("start", "resume"))
    return message


def _name(message: ClientMessage) -> str:
    return str(message.__struct_config__.tag)


class NativeSession:
    """One session: `receive` takes what its client sends; `outbox` and `ending` say what to send and how to close.

    However a session fails, audio that was accepted is recognised first: the input ends, the finals go out,
    then the error, then the connection closes.
    """

    def __init__(self, name: str, start: Start, begin: Begin, *, max_unsent: int, opened: float = 0.0) -> None:
        """Raises `RefusalError` when `begin` does."""
        self.name = name
        self.opened = opened
        """When the session began, on the caller's clock."""
        self.outbox = Outbox(max_unsent)
        self.ending: tuple[int, str] | None = None
        """Close code and reason, once the last message is in the outbox."""
        self.aborted = False
        """Whether events were dropped to end at once."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something to send."""
        self.transcription = begin(start, self._deliver, name[:8])

    @property
    def listening(self) -> bool:
        """Whether audio is accepted."""
        return self.transcription.state is State.LISTENING

    @property
    def backlog(self) -> float:
        """Seconds of audio that have not been looked at."""
        return self.transcription.backlog

    # what the client sends

    def receive(self, data: str | bytes) -> None:
        """Take a message that came after the opening one. Never raises: failures become the session's."""
        if self.transcription.failure is not None or self.transcription.state is State.ENDED:
            return  # sent before the client could know
        try:
            if isinstance(data, bytes):
                if not self.listening:
                    raise RefusalError("unexpected_message", "audio after `stop`", ())
                self.transcription.send(data)
            else:
                self._receive_message(decode(data))
        except RefusalError as refusal:
            self.transcription.fail(refusal)

    def _receive_message(self, message: ClientMessage) -> None:
        match message:
            case Stop():
                self.transcription.end()
            case Flush() if self.listening:
                self.transcription.flush()
            case Flush():
                raise RefusalError("unexpected_message", "`flush` after `stop`", ())
            case _:
                where = f"`{_name(message)}` in a session that has begun"
                raise RefusalError("unexpected_message", where, ("flush", "stop"))

    def settle(self) -> None:
        """What was received has been looked at: nothing comes of that here."""

    def fail(self, refusal: RefusalError) -> None:
        """End the input; the error follows when all audio accepted has been recognised."""
        self.transcription.fail(refusal)

    def abort(self, refusal: RefusalError) -> None:
        """End the session at once, with nothing but the error left to send."""
        if self.ending is None:
            self.outbox.clear()
            self.aborted = True
            self.transcription.abort(refusal)

    # what comes of it

    def _deliver(self, event: Event) -> None:
        self.outbox.add(event)
        match event:
            case messages.Done():
                self.ending = (1000, "")
            case messages.Error() if event.code in messages.CLOSE_CODES:
                refusal = RefusalError(event.code, event.message)
                self.ending = (refusal.close_code, refusal.close_reason)
            case _ if self.outbox.overflowing:
                self.abort(RefusalError("slow_client", "too many events wait for the client to read them"))
        self.on_change()

    def take(self) -> bytes | None:
        """The next event to send, as JSON text in UTF-8, or None."""
        event = self.outbox.take()
        return None if event is None else messages.encode(event)

    # what goes out besides events

    def ready(self, model: str, *, heartbeat: float, resume_window: float) -> messages.Ready:
        """The answer to `start` or `resume`."""
        start = self.transcription.start
        return messages.Ready(
            session=self.name,
            protocol=messages.PROTOCOL,
            model=model,
            format=start.format,
            rate=start.rate,
            channels=start.channels,
            channel=start.channel,
            acknowledged=self.transcription.accepted,
            heartbeat=heartbeat,
            resume_window=resume_window,
            flushes=self.transcription.flushes,
        )

    def stats(self) -> messages.Stats:
        """How the session keeps up."""
        return messages.Stats(round(self.transcription.seconds, 3), round(self.transcription.backlog, 3))
