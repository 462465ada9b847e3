"""What protocols are made of: a `Handler` is one connection's side of a protocol, as a pure state machine.

It takes what the client sends, says what to send to it, and is told the time. It knows no sockets, clocks or tasks, so
a test can hold it by hand; `transport.Connection` moves the bytes. An `Adapter` is the handler for the protocol of
another server: a mapping between its messages and transcriptions.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import msgspec
from parastream.model.hotwords import MOST, Hotwords
from parastream.server.protocols.terms import usable
from parastream.server.sessions.decoding import Decoding
from parastream.server.sessions.outbox import Outbox
from parastream.server.sessions.transcription import Deliver, Progress, State, Transcription, with_hotwords
from parastream.server.wire import messages
from parastream.server.wire.messages import Event, Final, Partial, Start, Word
from parastream.server.wire.refusals import INTERNAL, RefusalError

logger = logging.getLogger("parastream.server")

_CANTONESE = ("zh-hk", "zh-yue", "zh-hant-hk", "zh-mo")


@dataclass(frozen=True)
class Request:
    """The request that opened a connection, as far as protocols look at it."""

    path: str = "/"
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values by name, in their order."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values by name in small letters; there may be a token among them."""
    reply_headers: Mapping[str, str] = field(default_factory=dict)
    """What every response to the request has to say."""

    def get(self, name: str, default: str = "") -> str:
        """Return the last value of a query parameter."""
        return self.query[name][-1] if name in self.query else default


class Ending(NamedTuple):
    """How to close a connection."""

    code: int
    reason: str = ""


def _nothing() -> None:
    pass


class Handler(ABC):
    """One connection's side of a protocol.

    Whoever moves the bytes calls `start`, `receive` and `tick`, sends what `take` returns, closes as `ending` says once
    that is nothing more, and calls `lost` at the end.
    """

    idle_timeout: ClassVar[float | None] = None
    """Seconds without a message after which `fail` is called; None: as the server is configured."""
    patience: ClassVar[float] = 1.0
    """Times the server's idle timeout; more where clients cannot show that they are still there: whoever pushes to talk
    may be silent for long."""
    only_audio_counts: ClassVar[bool] = False
    """Whether text messages do not count against idleness."""

    def __init__(self, name: str) -> None:
        """Make a handler; `name` is for the log."""
        self.name = name
        self.opened: float | None = None
        """When its session began, on the clock of `tick`; None: with the connection."""
        self.on_change: Callable[[], None] = _nothing
        """Called when there is something to send, or the connection is to end."""
        self.on_progress: Callable[[], None] = _nothing
        """Called when `backlog` has shrunk."""
        self.on_reschedule: Callable[[], None] = _nothing
        """Called when `tick` is wanted earlier than it said."""
        self.unframed = 0
        """Messages in the bytes received so far, where a connection does not cut them into messages."""
        self._ending: Ending | None = None
        self._aborted = False

    # what the connection looks at

    @property
    def ending(self) -> Ending | None:
        """How to close, once `take` has nothing more to follow; None while the connection goes on."""
        return self._ending

    @property
    def aborted(self) -> bool:
        """Whether messages were dropped to end at once."""
        return self._aborted

    @property
    @abstractmethod
    def listening(self) -> bool:
        """Whether the client may send more."""

    @property
    def backlog(self) -> float:
        """Seconds of audio that have not been looked at."""
        return 0.0

    # what the connection calls

    def start(self) -> None:  # noqa: B027 - most protocols wait for the client's first message
        """Begin, the connection being open. Never raises `RefusalError`, as `receive`."""

    @abstractmethod
    def receive(self, data: str | bytes) -> None:
        """Take a message of the client. Never raises `RefusalError`: failures become the handler's."""

    def end_input(self) -> None:
        """Note that the client sends nothing more, though it may wait for answers: the connection ends with them."""
        if self._ending is None:
            self._ending = Ending(1000)
            self.on_change()

    @abstractmethod
    def take(self) -> bytes | None:
        """Return the next message to send, or None. Over WebSockets it is text in UTF-8."""

    def tick(self, now: float) -> float:
        """Do what is due at the instant `now`, and return the next one."""
        return math.inf

    def complain(self, refusal: RefusalError) -> None:  # noqa: B027 - the clients of ours show errors themselves
        """Tell the log of something that the client was refused by this handler, or by what moves the bytes."""

    @abstractmethod
    def fail(self, refusal: RefusalError) -> None:
        """End all input; the error follows when all audio accepted has been recognised."""

    @abstractmethod
    def abort(self, refusal: RefusalError) -> None:
        """End at once, with nothing but the error left to send."""

    @abstractmethod
    def lost(self, *, finished: bool, why: str) -> None:
        """Let go of everything: the connection is gone.

        Args:
            finished: whether either side closed it in order, so that the client will not come back.
            why: how it was closed, for the log.
        """


class Admits(Protocol):
    """`Admission`, as adapters use it."""

    @property
    def model(self) -> str:
        """See `Admission.model`."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """See `Admission.languages`."""
        ...

    @property
    def expected(self) -> Hotwords:
        """Hotwords that are listened for in all sessions."""
        ...

    @property
    def max_upload(self) -> int:
        """Bytes of the largest recording."""
        ...

    def begin(
        self, start: Start, deliver: Deliver, name: str, *, decoding: Decoding | None = None, entitled: bool = True
    ) -> Transcription:
        """See `Admission.begin`."""
        ...

    def complain(self, who: str, refusal: RefusalError) -> None:
        """See `Admission.complain`."""
        ...

    def decode(self, *, channels: int | None, live: bool, name: str) -> Decoding:
        """See `Admission.decode`."""
        ...

    def make_secret(self, expires: int) -> str:
        """See `Admission.make_secret`."""
        ...


class Adapter(Handler):
    """One connection in the protocol of another server.

    A protocol fills in `receive_text`, `receive_audio`, `apply` and `report`, and calls `begin`, `send` and `close`.
    """

    max_message: ClassVar[int | None] = None
    """Bytes in one message, where clients rely on more than the server's setting."""
    subprotocols: ClassVar[tuple[str, ...]] = ()
    """Selected when a client offers them, and never required."""

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        """Make an adapter; `name` is for the log, `max_unsent` bounds the messages that wait for the client."""
        super().__init__(name)
        self.admission = admission
        self.request = request
        self._outbox: Outbox[bytes] = Outbox(max_unsent)
        self._transcriptions: dict[Transcription, None] = {}  # those that have not ended
        self._failure: RefusalError | None = None
        self._input_ended = False

    @classmethod
    def check(cls, request: Request) -> None:
        """Look at a request before its connection is accepted.

        Raises:
            RefusalError: the connection is answered with HTTP status 400 and this error.
        """

    @classmethod
    def headers_of(cls, error: messages.Error) -> Mapping[str, str]:
        """Return what its clients look for in the headers of an HTTP answer that refuses the connection."""
        return {}

    # for a protocol to fill in

    def open(self) -> None:
        """Greet the client, the connection being open."""

    @abstractmethod
    def receive_text(self, text: str) -> None:
        """Take a text message. A `RefusalError` ends the connection after what was accepted has been recognised."""

    @abstractmethod
    def receive_audio(self, data: bytes) -> None:
        """Take a binary message; errors as in `receive_text`."""

    @abstractmethod
    def apply(self, transcription: Transcription, event: Event) -> None:
        """Take an event of a transcription that was begun here. Errors that end it go to `report` instead."""

    def advance(self, transcription: Transcription, progress: Progress) -> None:
        """Note how far a transcription has come: every event before that has been taken."""

    @abstractmethod
    def report(self, refusal: RefusalError) -> None:
        """Send what the protocol has for an error that ends the connection; it is closed after this."""

    # for a protocol to call

    def begin(
        self, start: Start, *, language: str = "", decoding: Decoding | None = None, entitled: bool = True
    ) -> Transcription:
        """Begin a transcription, whose events come to `apply`; see `Admission.begin`. Raises `RefusalError`.

        `language` is a tag of any form, such as `en-US`. Where the models do not know it, they find out what is spoken:
        clients of other servers name languages without having seen ours.
        """
        if language:
            start = msgspec.structs.replace(start, language=self._known(language))

        def deliver(event: Event | Progress) -> None:
            self._deliver(transcription, event)

        transcription = self.admission.begin(start, deliver, self.name, decoding=decoding, entitled=entitled)
        transcription.on_drained = lambda: self.on_progress()
        self._transcriptions[transcription] = None
        return transcription

    def _known(self, tag: str) -> str:
        try:
            languages = self.admission.languages
        except RefusalError:  # `begin` of the admission says so
            return ""
        tag = tag.strip().lower().replace("_", "-")
        candidates = ("yue" if tag in _CANTONESE else "", tag.partition("-")[0])
        return next((code for code in candidates if code in languages), "")

    def usable(self, hotwords: Iterable[messages.Hotword]) -> tuple[messages.Hotword, ...]:
        """Return those that can be listened for besides the server's own."""
        return usable(hotwords, MOST - len(self.admission.expected))

    def expect(self, transcription: Transcription, hotwords: Iterable[messages.Hotword]) -> None:
        """Have a transcription listen for other hotwords from here on."""
        transcription.expect(with_hotwords(self.admission.expected, self.usable(hotwords)))

    def send(self, message: msgspec.Struct | str | bytes, *, replaces: Hashable = None) -> None:
        """Send text, bytes or a message that becomes JSON, in order; nothing once the connection is to be closed.

        With `replaces`, an earlier message with the same that was not sent yet gives way to this one.
        """
        if self._ending is not None:
            return
        if isinstance(message, msgspec.Struct):
            message = msgspec.json.encode(message)
        self._outbox.put(message.encode() if isinstance(message, str) else message, key=replaces)
        if self._outbox.overflowing:
            self.abort(RefusalError("slow_client", "too many messages wait for the client to read them"))
        self.on_change()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close when all messages have been sent."""
        if self._ending is None:
            self._ending = Ending(code, reason)
            self.on_change()

    # for the connection

    def start(self) -> None:
        """See `Handler`."""
        try:
            self.open()
        except RefusalError as refusal:
            self.fail(refusal)

    @property
    def listening(self) -> bool:
        """Whether the client may send more."""
        return self._ending is None and self._failure is None and not self._input_ended

    @property
    def backlog(self) -> float:
        """Seconds of audio that have not been looked at."""
        return max((transcription.backlog for transcription in self._transcriptions), default=0.0)

    def take(self) -> bytes | None:
        """See `Handler`."""
        taken = self._outbox.take()
        return None if taken is None else taken[1]

    def receive(self, data: str | bytes) -> None:
        """See `Handler`."""
        if not self.listening:
            return  # sent before the client could know
        try:
            if isinstance(data, bytes):
                self.receive_audio(data)
            else:
                self.receive_text(data)
        except RefusalError as refusal:
            self.fail(refusal)

    def complain(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        self.admission.complain(self.name, refusal)

    def end_input(self) -> None:
        """See `Handler`."""
        self._input_ended = True
        for transcription in list(self._transcriptions):
            transcription.end()
        self._conclude()

    def fail(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        if self._ending is None and self._failure is None:
            self._failure = refusal
            self.complain(refusal)
            for transcription in list(self._transcriptions):
                transcription.fail(refusal)
            self._conclude()
            self.on_change()

    def abort(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        if not self._aborted and self._ending is None:
            self._aborted = True
            self._failure = refusal
            self.complain(refusal)
            self._outbox.clear()
            for transcription in list(self._transcriptions):
                transcription.abort(refusal)
            self._conclude()

    def lost(self, *, finished: bool, why: str) -> None:
        """See `Handler`."""
        for transcription in list(self._transcriptions):
            transcription.leave()

    def _deliver(self, transcription: Transcription, event: Event | Progress) -> None:
        if transcription.state is State.ENDED and isinstance(event, messages.Done | messages.Error):
            self._transcriptions.pop(transcription, None)
        if self._aborted:
            return
        if isinstance(event, messages.Error) and event.code in messages.CLOSE_CODES:
            self.fail(RefusalError(event.code, event.message, event.allowed))
            self._conclude()
            return
        try:
            if isinstance(event, Progress):
                self.advance(transcription, event)
                self.on_progress()
            else:
                self.apply(transcription, event)
                self._conclude()
        except Exception:
            logger.exception("session %s: internal error", self.name)
            self.fail(INTERNAL)

    def _conclude(self) -> None:
        if self._transcriptions or self._ending is not None:
            return
        if self._failure is not None:
            try:
                self.report(self._failure)
            except Exception:
                logger.exception("session %s: an error could not be told", self.name)
            self.close(self._failure.close_code, self._failure.close_reason)
        elif self._input_ended:
            self.close()


class OneByOne:
    """Partials and finals of one channel, in the order of their utterances.

    The first partials of an utterance may come before the final of the one before it. Protocols whose messages do not
    say which utterance they are about have to tell of one after the other.
    """

    def __init__(self) -> None:
        self._next = 0  # the utterance whose final is the next to come
        self._held: dict[int, Partial] = {}

    def order(self, event: Event) -> list[Partial | Final]:
        """Return what is to be told now that an event has come; other kinds of events are left out."""
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
    """Return the words as they stand in a text, each with the space before it; together they are the text."""
    tokens, end = [], 0
    for word in words:
        place = text.find(word.text, end)
        begin, end = end, (place if place >= 0 else end) + len(word.text)
        tokens.append(text[begin:end])
    return tokens
