"""One session as its client sees it, over as many connections as it takes. Does no I/O.

`AsyncClient` moves the messages between this and a connection.
"""

from __future__ import annotations

from collections import deque

from parastream.client.errors import ClientError, ServerError
from parastream.client.window import Control, SendWindow
from parastream.server.wire.messages import (
    Acknowledged,
    Done,
    Error,
    Final,
    Flushed,
    Partial,
    Ready,
    Resume,
    ServerMessage,
    SpeechEnded,
    SpeechStarted,
    Start,
    Stats,
    Stop,
    Tags,
)

ClientEvent = SpeechStarted | Partial | SpeechEnded | Tags | Final | Flushed | Stats | Done
"""What iterating over a client yields."""


class ResumableSession:
    """Audio that the server may not have, events that the caller has not taken, and where a new connection goes on.

    For each connection: send `first_message()`, hand the answer to `connected`, then send what `next_message` gives
    and hand every message that comes to `receive`.
    """

    def __init__(self, start: Start, buffer_bytes: int) -> None:
        """Prepare a session.

        Args:
            start: what the session asks for.
            buffer_bytes: unacknowledged audio from which on the session counts as full.
        """
        self.start = start
        self.window = SendWindow(buffer_bytes)
        self.ready: Ready | None = None
        """The server's answer when the session began."""
        self.stopped = False
        """Whether the caller has ended the audio."""
        self.done = False
        """Whether the server has said that nothing follows."""
        self._stop_sent = False  # on the present connection
        self._received = 0  # seq of the last event
        self._events: deque[ClientEvent | ServerError] = deque()

    # connections

    def begin_again(self) -> bool:
        """Make a new session of this one, which the server has let go of; False if it had taken audio, or told events.

        A server keeps a session whose connection broke only if there is something to lose.
        """
        if self.window.acknowledged or self._received:
            return False
        self.window.rewind(0, 0)
        self.ready = None
        return True

    def first_message(self) -> Start | Resume:
        """Return the message with which a connection begins or resumes the session."""
        return self.start if self.ready is None else Resume(self.ready.session, self._received)

    def connected(self, ready: Ready) -> int:
        """Take the server's answer to `first_message`, and return how many bytes of audio have to be sent again.

        Raises:
            ClientError: the server has lost audio.
        """
        self._stop_sent = False
        if self.ready is None:
            self.ready = ready
            return 0
        return self.window.rewind(ready.acknowledged, ready.flushes)

    def next_message(self) -> memoryview | Control | Stop | None:
        """Return what to send next: audio, another message or the end; None if there is nothing at present."""
        message = self.window.take()
        if message is None and self.stopped and not self._stop_sent:
            self._stop_sent = True
            return Stop()
        return message

    def receive(self, message: ServerMessage) -> None:
        """Take a message of the server.

        Raises:
            ServerError: the server ends the session.
            ClientError: the message does not belong here.
        """
        match message:
            case Acknowledged():
                self.window.acknowledge(message.bytes)
            case Stats():
                self._events.append(message)
            case Ready():
                raise ClientError("the server sent a second `ready`")
            case _ if 0 < message.seq <= self._received:
                pass  # sent again after a resume, though it had arrived
            case Error():
                self._received = message.seq
                error = ServerError(message.code, message.message, message.allowed)
                if message.code != "incomplete_sample":
                    raise error
                self._events.append(error)  # `done` follows
            case _:
                self._received = message.seq
                self.done = isinstance(message, Done)
                self._add(message)

    def _add(self, event: ClientEvent) -> None:
        """Queue an event. A partial replaces one of its utterance that waits at the end of the queue."""
        last = self._events[-1] if self._events else None
        if isinstance(event, Partial) and isinstance(last, Partial) and last.utterance == event.utterance:
            self._events.pop()
        self._events.append(event)

    # the caller

    def next_event(self) -> ClientEvent | None:
        """Take the next event; None if there is none at present.

        Raises:
            ServerError: the server has reported something that does not end the session.
        """
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, ServerError):
            raise event
        return event
