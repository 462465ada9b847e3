"""The native protocol `parastream.v1` as a pure mapping: messages to session calls, events to messages.

No sockets, clocks or tasks here: `parastream.server.app` moves the bytes. A `NativeSession` outlives its
connections, so that a client can resume it.
"""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from parastream.model.errors import AudioError, ParastreamError
from parastream.server import messages
from parastream.server.messages import ClientMessage, Resume, Start, Stop
from parastream.server.outbox import Outbox
from parastream.server.refusal import RefusalError
from parastream.streaming import SessionConfig, Stream, events
from parastream.streaming.audio import AudioFormat, Encoding
from parastream.streaming.endpoint import EndpointConfig

logger = logging.getLogger("parastream.server")

_decoder = msgspec.json.Decoder(ClientMessage)


class State(enum.Enum):
    """How far a session is."""

    LISTENING = enum.auto()
    """Audio is accepted."""
    ENDING = enum.auto()
    """The input has ended; finals are on their way."""
    ENDED = enum.auto()
    """The last message is in the outbox."""


def decode(text: str) -> ClientMessage:
    """Read a text frame of a client.

    Raises:
        RefusalError: `invalid_json`, or `invalid_message` with the place and what is allowed there.
    """
    try:
        message: ClientMessage = _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise RefusalError("invalid_message", str(error), _allowed(text, str(error))) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusalError("invalid_json", f"text frames carry one JSON object each: {error}") from error
    return message


_KINDS = {"start": Start, "stop": Stop, "resume": Resume}


class _Head(msgspec.Struct):
    type: str


def _allowed(text: str, error: str) -> tuple[str, ...]:
    """The names or values that are possible where msgspec's message says that something is wrong."""
    try:
        kind = _KINDS[msgspec.json.decode(text, type=_Head).type]
    except (msgspec.DecodeError, RecursionError, KeyError):
        return tuple(_KINDS)
    place: Any = msgspec.inspect.type_info(kind)
    for name in re.findall(r"\.(\w+)", error.rpartition("`$")[2]):
        field = next(field for field in place.fields if field.encode_name == name)
        place = field.type
    match place:
        case msgspec.inspect.LiteralType(values=values):
            return tuple(map(str, values))
        case msgspec.inspect.StructType(fields=fields) if "unknown field" in error:
            return tuple(field.encode_name for field in fields)
    return ()


def opening(data: str | bytes) -> Start | Resume:
    """Read the first message of a connection.

    Raises:
        RefusalError: it is neither `start` nor `resume`.
    """
    if isinstance(data, bytes):
        raise RefusalError("unexpected_message", "audio before `start`", ("start", "resume"))
    message = decode(data)
    if isinstance(message, Stop):
        raise RefusalError("unexpected_message", "`stop` before `start`", ("start", "resume"))
    return message


def session_config(start: Start, model: str, alias: str) -> SessionConfig:
    """What a `start` asks of the engine that serves `model`, which may also be called by its `alias`.

    Raises:
        RefusalError: it asks for something that is not there.
    """
    if start.model not in ("", model, alias):
        raise RefusalError("unknown_model", f"there is no model {start.model!r} on this server", (model,))
    if start.hotwords:
        raise RefusalError("unsupported", f"the model {model!r} takes no hotwords; `hotwords` must be empty")
    given = msgspec.structs.asdict(start.endpoint)
    endpoint = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    try:
        return SessionConfig(
            format=AudioFormat(Encoding(start.format), start.rate, start.channels, start.channel),
            partials=start.partials,
            punctuate=start.punctuation,
            final_pass=start.final_pass,
            endpoint=EndpointConfig(**endpoint),
        )
    except AudioError as error:
        raise RefusalError("unsupported", str(error)) from error
    except ValueError as error:
        raise RefusalError("unsupported", f"{error} - at `$.endpoint`") from error


OpenStream = Callable[[SessionConfig, Callable[[Sequence[events.Event]], None]], Stream]
"""Opens a stream of the engine, whose events go to the callback on the thread of the caller."""


class NativeSession:
    """One session: `receive` takes what its client sends, `apply` what its stream tells; `outbox` and
    `ending` say what to send and how to close.

    However a session fails, audio that was accepted is recognised first: the input ends, the finals go out,
    then the error, then the connection closes.
    """

    def __init__(self, name: str, start: Start, config: SessionConfig, *, max_unsent: int, opened: float = 0.0) -> None:
        self.name = name
        self.opened = opened
        """When the session began, on the caller's clock."""
        self.start = start
        self.config = config
        self.outbox = Outbox(max_unsent)
        self.accepted = 0
        """Bytes of audio."""
        self.finals = 0
        self.ending: tuple[int, str] | None = None
        """Close code and reason, once the last message is in the outbox."""
        self.aborted = False
        """Whether events were dropped to end at once."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something to send."""
        self._state = State.LISTENING
        self._stream: Stream | None = None
        self._failure: RefusalError | None = None

    def open(self, open_stream: OpenStream) -> None:
        """Begin with a stream of the engine, whose events come to `apply`.

        Raises whatever `open_stream` raises.
        """
        self._stream = open_stream(self.config, self.apply)

    @property
    def stream(self) -> Stream:
        """The engine's side of the session."""
        assert self._stream is not None, "the session was not opened"
        return self._stream

    @property
    def state(self) -> State:
        """How far the session is."""
        return self._state

    def _enter(self, state: State) -> None:
        logger.debug("session %.8s: %s -> %s", self.name, self._state.name, state.name)
        self._state = state

    @property
    def seconds(self) -> float:
        """Length of the audio accepted."""
        return self.accepted / (self.config.format.frame_bytes * self.config.format.rate)

    # what the client sends

    def receive(self, data: str | bytes) -> None:
        """Take a message that came after the opening one. Never raises: failures become the session's."""
        if self._failure is not None or self._state is State.ENDED:
            return  # sent before the client could know
        try:
            if isinstance(data, bytes):
                self._receive_audio(data)
            else:
                self._receive_message(decode(data))
        except RefusalError as refusal:
            self.fail(refusal)
        except ParastreamError as error:
            self.abort(RefusalError("internal", str(error)))

    def _receive_audio(self, data: bytes) -> None:
        if self._state is not State.LISTENING:
            raise RefusalError("unexpected_message", "audio after `stop`", ())
        self.stream.send(data)
        self.accepted += len(data)

    def _receive_message(self, message: ClientMessage) -> None:
        if not isinstance(message, Stop):
            kind = "start" if isinstance(message, Start) else "resume"
            raise RefusalError("unexpected_message", f"`{kind}` in a session that has begun", ("stop",))
        self._end_input()

    def _end_input(self) -> None:
        if self._state is State.LISTENING:
            self._enter(State.ENDING)
            self.stream.end()

    def fail(self, refusal: RefusalError) -> None:
        """End the input; the error follows when all audio accepted has been recognised."""
        if self._state is not State.ENDED and self._failure is None:
            self._failure = refusal
            self._end_input()

    def abort(self, refusal: RefusalError) -> None:
        """End the session at once, with nothing but the error left to send."""
        if self._state is not State.ENDED:
            self.stream.cancel()
            self.outbox.clear()
            self.aborted = True
            self._failure = refusal
            self._finish(0.0)

    def cancel(self) -> None:
        """Drop the session; nobody is there to be told."""
        if self._state is not State.ENDED:
            self._enter(State.ENDED)
            self.stream.cancel()

    # what the stream tells

    def apply(self, new: Iterable[events.Event]) -> None:
        """Take events of the stream."""
        for event in new:
            if self._state is State.ENDED:
                return
            self._apply(event)
            if self.outbox.overflowing:
                self.abort(RefusalError("slow_client", "too many events wait for the client to read them"))
        self.on_change()

    def _apply(self, event: events.Event) -> None:
        match event:
            case events.SpeechStarted():
                self.outbox.add(messages.SpeechStarted(event.utterance, _seconds(event.time)))
            case events.Partial():
                self.outbox.add(
                    messages.Partial(
                        event.utterance,
                        _seconds(event.start),
                        _seconds(event.end),
                        event.stable,
                        event.draft,
                        _words(event.words),
                    )
                )
            case events.SpeechEnded():
                self.outbox.add(messages.SpeechEnded(event.utterance, _seconds(event.time)))
            case events.Final():
                self.finals += 1
                self.outbox.add(
                    messages.Final(
                        event.utterance,
                        _seconds(event.start),
                        _seconds(event.end),
                        event.text,
                        _words(event.words),
                        round(event.confidence, 4),
                    )
                )
            case events.InputRejected(code="incomplete_sample"):
                self.outbox.add(messages.Error("incomplete_sample", event.message))
            case events.InputRejected(code="internal_error"):
                self.fail(RefusalError("internal", event.message))
            case events.InputRejected():
                self.fail(RefusalError("invalid_audio", event.message))
            case events.SessionEnded():
                self._finish(event.time)

    def _finish(self, duration: float) -> None:
        self._enter(State.ENDED)
        if self._failure is None:
            self.outbox.add(messages.Done(_seconds(duration)))
            self.ending = (1000, "")
        else:
            self.outbox.add(self._failure.error)
            self.ending = (self._failure.close_code, self._failure.close_reason)
        self.on_change()

    # what goes out besides events

    def ready(self, model: str, *, heartbeat: float, resume_window: float) -> messages.Ready:
        """The answer to `start` or `resume`."""
        format = self.config.format
        return messages.Ready(
            session=self.name,
            protocol=messages.PROTOCOL,
            model=model,
            format=format.encoding.value,
            rate=format.rate,
            channels=format.channels,
            channel=format.channel,
            acknowledged=self.accepted,
            heartbeat=heartbeat,
            resume_window=resume_window,
        )

    def stats(self) -> messages.Stats:
        """How the session keeps up."""
        return messages.Stats(_seconds(self.seconds), _seconds(self.stream.backlog))


def _seconds(time: float) -> float:
    return round(time, 3)


def _words(words: Iterable[events.Word]) -> tuple[messages.Word, ...]:
    return tuple(
        messages.Word(word.text, _seconds(word.start), _seconds(word.end), round(word.confidence, 4)) for word in words
    )
