"""What the protocols of other servers are made of: each is a pure mapping between its messages and transcriptions.

A `Adapter` is one connection. It knows no sockets, clocks or tasks, so that a test can hold it by hand; the
native protocol, whose sessions outlive their connections, is apart (`native`).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import msgspec
from parastream.server.sessions.transcription import Deliver, State, Transcription
from parastream.server.wire import messages
from parastream.server.wire.messages import Event, Final, Partial, Start, Word
from parastream.server.wire.refusals import RefusalError

logger = logging.getLogger("parastream.server")


@dataclass(frozen=True)
class Request:
    """The request that opened a connection, as far as protocols look at it."""

    path: str = "/"
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values by name, in their order."""

    def get(self, name: str, default: str = "") -> str:
        """The last value of a query parameter."""
        return self.query[name][-1] if name in self.query else default


class Admits(Protocol):
    """`Admission`, as conversations use it."""

    @property
    def model(self) -> str:
        """Name of the model that is served."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that it knows, as ISO 639-1 codes."""
        ...

    def begin(self, start: Start, deliver: Deliver, name: str) -> Transcription:
        """See `Admission.begin`."""
        ...


class Adapter(ABC):
    """One connection in one protocol. `receive` takes what the client sends, `take` says what to send to it, and
    `ending` how to close once that is nothing more.

    A protocol fills in `receive_text`, `receive_audio`, `apply` and `report`, and calls `begin`, `send` and `close`.
    """

    lock_step: ClassVar[bool] = False
    """Whether `settle` waits until everything received has been recognised, rather than most of it."""
    idle_timeout: ClassVar[float | None] = None
    """Seconds without any message after which `fail` is called; None: as the server is configured."""
    max_message: ClassVar[int | None] = None
    """Bytes in one message, where clients rely on more than the server's setting."""
    subprotocols: ClassVar[tuple[str, ...]] = ()
    """Selected when a client offers them, and never required."""

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        """`name` is for the log."""
        self.name = name
        self.admission = admission
        self.request = request
        self.ending: tuple[int, str] | None = None
        """Close code and reason, once nothing follows what `take` still has."""
        self.aborted = False
        """Whether messages were dropped to end at once."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something to send."""
        self._max_unsent = max_unsent
        self._outgoing: deque[tuple[Hashable, str | bytes]] = deque()
        self._transcriptions: dict[Transcription, None] = {}  # those that have not ended
        self._failure: RefusalError | None = None

    @classmethod  # noqa: B027 - most have no query
    def check(cls, request: Request) -> None:
        """Look at a request before its connection is accepted.

        Raises:
            RefusalError: the connection is answered with HTTP status 400 and this error.
        """

    # for a protocol to fill in

    def open(self) -> None:  # noqa: B027 - most protocols wait for the client's first message
        """The connection is open."""

    @abstractmethod
    def receive_text(self, text: str) -> None:
        """Take a text message. A `RefusalError` ends the connection after what was accepted has been recognised."""

    @abstractmethod
    def receive_audio(self, data: bytes) -> None:
        """Take a binary message; errors as in `receive_text`."""

    @abstractmethod
    def apply(self, transcription: Transcription, event: Event) -> None:
        """Take an event of a transcription that was begun here. Errors that end it go to `report` instead."""

    @abstractmethod
    def report(self, refusal: RefusalError) -> None:
        """Send what the protocol has for an error that ends the connection; it is closed after this."""

    def settle(self) -> None:  # noqa: B027 - most protocols need not know
        """What was received has been looked at, but for what `backlog` says."""

    # for a protocol to call

    def begin(self, start: Start) -> Transcription:
        """Begin a transcription, whose events come to `apply`. Raises `RefusalError`."""

        def deliver(event: Event) -> None:
            self._deliver(transcription, event)

        transcription = self.admission.begin(start, deliver, self.name)
        self._transcriptions[transcription] = None
        return transcription

    def send(self, message: Any, *, replaces: Hashable = None) -> None:
        """Send text, bytes or an object that becomes JSON, in order; nothing once the conversation is to be closed.

        With `replaces`, an earlier message with the same that was not sent yet gives way to this one.
        """
        if self.ending is not None:
            return
        if replaces is not None:
            self._outgoing = deque(item for item in self._outgoing if item[0] != replaces)
        data = message if isinstance(message, str | bytes) else msgspec.json.encode(message).decode()
        self._outgoing.append((replaces, data))
        if len(self._outgoing) > self._max_unsent:
            self.abort(RefusalError("slow_client", "too many messages wait for the client to read them"))
        self.on_change()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close when all messages have been sent."""
        if self.ending is None:
            self.ending = code, reason
            self.on_change()

    # for whoever moves the bytes

    def start(self) -> None:
        """Begin, the connection being open. Never raises `RefusalError`, as `receive`."""
        try:
            self.open()
        except RefusalError as refusal:
            self.fail(refusal)

    @property
    def listening(self) -> bool:
        """Whether the client may send more."""
        return self.ending is None and self._failure is None

    @property
    def backlog(self) -> float:
        """Seconds of audio that have not been looked at."""
        return max((transcription.backlog for transcription in self._transcriptions), default=0.0)

    def take(self) -> str | bytes | None:
        """The next message to send, or None."""
        return self._outgoing.popleft()[1] if self._outgoing else None

    def receive(self, data: str | bytes) -> None:
        """Take a message of the client. Never raises `RefusalError`: failures become the conversation's."""
        if not self.listening:
            return  # sent before the client could know
        try:
            if isinstance(data, bytes):
                self.receive_audio(data)
            else:
                self.receive_text(data)
        except RefusalError as refusal:
            self.fail(refusal)

    def fail(self, refusal: RefusalError) -> None:
        """End all input; the error follows when all audio accepted has been recognised."""
        if self.ending is None and self._failure is None:
            self._failure = refusal
            for transcription in list(self._transcriptions):
                transcription.fail(refusal)
            self._conclude()

    def abort(self, refusal: RefusalError) -> None:
        """End at once, with nothing but the error left to send."""
        if not self.aborted and self.ending is None:
            self.aborted = True
            self._failure = refusal
            self._outgoing.clear()
            for transcription in list(self._transcriptions):
                transcription.abort(refusal)
            self._conclude()

    def leave(self) -> None:
        """The connection is gone."""
        for transcription in list(self._transcriptions):
            transcription.leave()

    def _deliver(self, transcription: Transcription, event: Event) -> None:
        if transcription.state is State.ENDED and isinstance(event, messages.Done | messages.Error):
            self._transcriptions.pop(transcription, None)
        if self.aborted:
            return
        if isinstance(event, messages.Error) and event.code in messages.CLOSE_CODES:
            self.fail(RefusalError(event.code, event.message, event.allowed))
            self._conclude()
            return
        try:
            self.apply(transcription, event)
        except Exception:
            logger.exception("session %s: internal error", self.name)
            self.abort(RefusalError("internal", "internal error; the server's log says more"))

    def _conclude(self) -> None:
        if self._failure is not None and self.ending is None and not self._transcriptions:
            self.report(self._failure)
            self.close(self._failure.close_code, self._failure.close_reason)


class OneByOne:
    """Partials and finals of one channel, in the order of their utterances.

    The first partials of an utterance may come before the final of the one before it. Protocols whose messages do not
    say which utterance they are about have to tell of one after the other.
    """

    def __init__(self) -> None:
        self._next = 0  # the utterance whose final is the next to come
        self._held: dict[int, Partial] = {}

    def order(self, event: Event) -> list[Partial | Final]:
        """What is to be told now that an event has come, other kinds of events left out."""
        match event:
            case Partial() if event.utterance > self._next:
                self._held[event.utterance] = event
            case Partial():
                return [event]
            case Final():
                self._next = event.utterance + 1
                held = self._held.pop(self._next, None)
                return [event] if held is None else [event, held]
        return []


def spelled(text: str, words: Sequence[Word]) -> list[str]:
    """The words as they stand in a text, with the spaces between them: put together, they are what they spell of it."""
    tokens, end = [], 0
    for word in words:
        place = text.find(word.text, end)
        begin, end = end, (place if place >= 0 else end) + len(word.text)
        tokens.append(text[begin:end])
    return tokens
