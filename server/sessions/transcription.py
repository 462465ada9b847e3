"""One client's audio on its way through the engine: a stream for each channel that is recognised.

What comes of it are events of the native protocol, on which every protocol and every listener (rooms, saved
transcripts) builds.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
from parastream.model.errors import AudioError, HotwordError, ParastreamError
from parastream.model.hotwords import Hotword, Hotwords, checked
from parastream.server.sessions.decoding import Decoding
from parastream.server.sessions.recogniser import RecogniserStream
from parastream.server.sessions.wording import Wording
from parastream.server.transcripts.labels import channel_labels, clean_label
from parastream.server.wire import messages
from parastream.server.wire.messages import ENCODED, Event, Start
from parastream.server.wire.refusals import INTERNAL, RefusalError, quoted
from parastream.streaming import SessionConfig, events
from parastream.streaming.audio import SAMPLE_RATE, AudioFormat, Encoding
from parastream.streaming.endpoint import EndpointConfig

logger = logging.getLogger("parastream.server")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transcription has come on one of its channels; told after the events of the audio before that."""

    channel: int
    settled: float
    """Seconds of audio before which no more speech will be found to begin."""


Listener = Callable[[Event], None]
Deliver = Callable[[Event | Progress], None]
OpenStream = Callable[[SessionConfig, Callable[[Sequence[events.Event]], None]], RecogniserStream]
"""Opens a stream of the engine, whose events go to the callback on the thread of the caller."""


class State(enum.Enum):
    """How far a transcription is."""

    LISTENING = enum.auto()
    """Audio is accepted."""
    ENDING = enum.auto()
    """The input has ended; finals are on their way."""
    ENDED = enum.auto()
    """The last event has been delivered, or nobody waits for it any more."""


def session_configs(
    start: Start,
    model: str,
    alias: str,
    wording: Wording = Wording(),
    expected: Hotwords = (),
    *,
    entitled: bool = True,
) -> list[SessionConfig]:
    """Return what a `start` asks of the engine: a configuration for each channel that is recognised.

    The engine serves `model`, which may also be called by its `alias`, and listens for the `expected` in all sessions.
    `entitled`: see `SessionConfig`.

    Raises:
        RefusalError: it asks for something that is not there.
    """
    if start.model not in ("", model, alias):
        raise RefusalError("unknown_model", f"there is no model {quoted(start.model)} on this server", (model,))
    given = msgspec.structs.asdict(start.endpoint)
    try:
        endpoint = EndpointConfig(**{name: value for name, value in given.items() if value is not msgspec.UNSET})
    except ValueError as error:
        raise RefusalError("unsupported", f"{error} - at `$.endpoint`") from error
    try:
        if start.format == ENCODED:
            first = AudioFormat(Encoding.F32LE, SAMPLE_RATE, start.channels)
        else:
            first = AudioFormat(Encoding(start.format), start.rate, start.channels)
        channels = range(first.channels) if start.channel == "all" else [start.channel]
        formats = [AudioFormat(first.encoding, first.rate, first.channels, channel) for channel in channels]
    except AudioError as error:
        raise RefusalError("unsupported", str(error)) from error
    if len(start.labels) not in (0, len(formats)):
        raise RefusalError(
            "unsupported",
            f"{len(start.labels)} labels for {len(formats)} recognised channels; `labels` must be empty or name each",
        )
    rules = wording.rules(start)
    hotwords = with_hotwords(expected, start.hotwords)
    return [
        SessionConfig(
            format=audio,
            partials=start.partials,
            punctuate=start.punctuation,
            itn=start.itn,
            replacements=rules,
            final_pass=start.final_pass,
            language=start.language or None,
            tags=start.tags,
            hotwords=hotwords,
            endpoint=endpoint,
            entitled=entitled,
        )
        for audio in formats
    ]


def with_hotwords(expected: Hotwords, given: Iterable[str | messages.Hotword]) -> Hotwords:
    """Return the hotwords of a session: those `expected` in all, and those that are `given`, which win.

    Raises:
        RefusalError: There are too many, or one cannot be used.
    """
    try:
        own = (
            Hotword(item) if isinstance(item, str) else Hotword(item.term, item.weight, item.sounds_like)
            for item in given
        )
        return checked([*expected, *own])
    except HotwordError as error:
        raise RefusalError("unsupported", f"{error} - at `$.hotwords`") from error


class Transcription:
    """What `start` asked for, under way. Events go to `deliver`, the last of them `Done` or an `Error` that closes.

    However it fails, audio that was accepted is recognised first: the input ends, the finals come, then the error.
    """

    def __init__(
        self,
        name: str,
        start: Start,
        configs: Sequence[SessionConfig],
        deliver: Deliver,
        decoding: Decoding | None = None,
    ) -> None:
        """Prepare to begin; see `Admission.begin`."""
        self.name = name
        """For the log and the names of files."""
        self.start = msgspec.structs.replace(start, labels=tuple(map(clean_label, start.labels)))
        self.configs = configs
        self.accepted = 0
        """Bytes of audio, as the client sends it."""
        self.flushes = 0
        """Calls of `flush` that were accepted."""
        self.finals = 0
        self.listeners: list[Listener] = []
        """Get each event before `deliver`, which may end all of this. One that raises gets no more."""
        self.on_ended: list[Callable[[], None]] = []
        """Called once, after the last event or when nobody waits for it any more."""
        self.on_drained: Callable[[], None] = lambda: None
        """Called when less audio waits to be decoded."""
        self._deliver = deliver
        self._decoding = decoding
        self._samples = 0  # bytes of samples
        self._state = State.LISTENING
        self._streams: list[RecogniserStream] = []
        self._running = len(configs)  # streams that have more to tell
        self._utterances: dict[tuple[int, int], int] = {}  # number of each open one, by channel and number there
        self._count = 0
        self._flushed = [0] * len(configs)  # flushes that each stream has told of
        self._progress = [0.0] * len(configs)  # seconds of each stream's audio that have been looked at
        self._incomplete: str | None = None
        self._duration = 0.0
        self._failure: RefusalError | None = None
        self._orphaned = False

    def open(self, open_stream: OpenStream) -> None:
        """Begin. Raises whatever `open_stream` raises; nothing is left open then."""
        try:
            for index, config in enumerate(self.configs):
                self._streams.append(open_stream(config, self._listener(index)))
        except Exception:
            for stream in self._streams:
                stream.cancel()
            self._streams.clear()
            raise
        if self._decoding is not None:
            self._decoding.attach(self)
            self._decoding.on_drained = lambda: self.on_drained()

    def _listener(self, index: int) -> Callable[[Sequence[events.Event]], None]:
        return lambda new: self._apply_all(index, new)

    @property
    def state(self) -> State:
        """How far it is."""
        return self._state

    @property
    def orphaned(self) -> bool:
        """Whether nobody is there to be told any more, so that only `listeners` wait for its end."""
        return self._orphaned

    @property
    def failure(self) -> RefusalError | None:
        """The error that it ends, or has ended, with."""
        return self._failure

    @property
    def seconds(self) -> float:
        """Length of the audio accepted, in whole samples, as far as it has been decoded."""
        audio = self.configs[0].format
        return self._samples // audio.frame_bytes / audio.rate

    @property
    def progress(self) -> float:
        """Seconds of that audio that have been looked at: all that can be told of them so far has been delivered."""
        return min(self._progress)

    @property
    def labels(self) -> dict[int, str]:
        """The speakers' names by channel: as given, else a number where there are several, else empty."""
        channels = [config.format.number for config in self.configs]
        names = self.start.labels or (channel_labels(len(channels)) if len(channels) > 1 else ("",))
        return dict(zip(channels, names, strict=True))

    @property
    def backlog(self) -> float:
        """Seconds of audio accepted that have not been looked at."""
        if self._state is State.ENDED:
            return 0.0
        return self.seconds - self.progress + (self._decoding.waiting if self._decoding is not None else 0.0)

    # what the client sends

    def send(self, data: bytes) -> None:
        """Take audio. Ignored once the input has ended."""
        if self._state is not State.LISTENING:
            return
        self.accepted += len(data)
        if self._decoding is not None:
            self._decoding.send(data)
        else:
            self.hear(data)

    def flush(self) -> None:
        """End the open utterances with the audio accepted so far; `Flushed` follows their finals."""
        if self._state is State.LISTENING:
            self.flushes += 1
            if self._decoding is not None:
                self._decoding.flush()
            else:
                self.mark_flush()

    def expect(self, hotwords: Hotwords) -> None:
        """Listen for other hotwords from the end of the audio accepted so far; see `with_hotwords`."""
        if self._state is State.LISTENING:
            self._each(lambda stream: stream.expect(hotwords))

    def end(self) -> None:
        """End the audio: finals and `Done` follow."""
        if self._state is State.LISTENING:
            self._state = State.ENDING
            if self._decoding is not None:
                self._decoding.end()
            else:
                self.mark_end()

    # what is decoded of it, or is samples already

    def hear(self, samples: bytes) -> None:
        """Pass samples on to the engine."""
        if self._state is not State.ENDED:
            self._samples += len(samples)
            self._each(lambda stream: stream.send(samples))
            if self.state is State.ENDED:  # the engine has not taken them
                self._samples -= len(samples)
                self.accepted -= 0 if self._decoding is not None else len(samples)

    def mark_flush(self) -> None:
        """Flush behind the samples so far."""
        self._each(lambda stream: stream.flush())

    def mark_end(self) -> None:
        """End behind the samples so far."""
        self._each(lambda stream: stream.end())

    def _each(self, action: Callable[[RecogniserStream], None]) -> None:
        try:
            for stream in self._streams:
                action(stream)
        except ParastreamError as error:
            self.abort(RefusalError("internal", str(error)))

    def fail(self, refusal: RefusalError) -> None:
        """End the input; the error follows when all audio accepted has been recognised."""
        if self._state is not State.ENDED and self._failure is None:
            self._failure = refusal
            self.end()

    def abort(self, refusal: RefusalError) -> None:
        """End at once, with nothing but the error left to deliver."""
        if self._state is not State.ENDED:
            self._failure = refusal
            for stream in self._streams:
                stream.cancel()
            self._finish()

    def leave(self) -> None:
        """Nobody is there to be told any more. What was accepted is still recognised for `listeners`, if any."""
        if self._state is State.ENDED:
            return
        if self.listeners:
            self._orphaned = True
            self.end()
        else:
            self._state = State.ENDED
            for stream in self._streams:
                stream.cancel()
            self._ended()

    # what the streams tell

    def _apply_all(self, index: int, new: Iterable[events.Event]) -> None:
        try:
            for event in new:
                if self._state is State.ENDED:
                    return
                self._apply(index, event)
        except Exception:
            logger.exception("session %s: internal error", self.name)
            self.abort(INTERNAL)

    def _apply(self, index: int, event: events.Event) -> None:
        channel = self.configs[index].format.number
        match event:
            case events.SpeechStarted() | events.Partial() | events.SpeechEnded() | events.Tags() | events.Final():
                self._utter(index, channel, event)
            case events.Flushed():
                before = min(self._flushed)
                self._flushed[index] += 1
                if min(self._flushed) > before:
                    self._tell(messages.Flushed(event.time))
            case events.Progress():
                self._advance(index, event.time)
                self._hand_over(Progress(channel, event.settled))
            case events.InputRejected(code="incomplete_sample"):
                self._incomplete = event.message  # the same for each channel
            case events.InputRejected(code="internal_error"):
                self.fail(RefusalError("internal", event.message))
            case events.InputRejected(code="unsupported"):
                self.fail(RefusalError("unsupported", event.message))
            case events.InputRejected():
                self.fail(RefusalError("invalid_audio", event.message))
            case events.SessionEnded():
                self._running -= 1
                self._duration = max(self._duration, event.time)
                if not self._running:
                    self._finish()

    def _utter(
        self,
        index: int,
        channel: int,
        event: events.SpeechStarted | events.Partial | events.SpeechEnded | events.Tags | events.Final,
    ) -> None:
        """Tell of an utterance."""
        match event:
            case events.SpeechStarted():
                self._utterances[index, event.utterance] = self._count
                self._tell(messages.SpeechStarted(self._count, event.time, channel))
                self._count += 1
            case events.Partial():
                self._tell(
                    messages.Partial(
                        self._utterances[index, event.utterance],
                        event.start,
                        event.end,
                        event.stable,
                        event.draft,
                        _words(event.words),
                        channel,
                    )
                )
            case events.SpeechEnded():
                utterance = self._utterances[index, event.utterance]
                self._tell(messages.SpeechEnded(utterance, event.time, channel, event.reason))
            case events.Final():
                self.finals += 1
                self._tell(
                    messages.Final(
                        self._utterances.pop((index, event.utterance)),
                        event.start,
                        event.end,
                        event.text,
                        _words(event.words),
                        event.confidence,
                        channel,
                        event.ear,
                        event.language,
                    )
                )
            case events.Tags():
                utterance = self._utterances[index, event.utterance]
                self._tell(messages.Tags(utterance, event.emotion, event.sound, channel))

    def _advance(self, index: int, time: float) -> None:
        """Note up to where a stream has looked at its audio, in seconds."""
        self._progress[index] = time
        if self._decoding is not None:
            self._decoding.look(self.progress)

    def _finish(self) -> None:
        self._state = State.ENDED
        if self._incomplete is not None:
            self._tell(messages.Error("incomplete_sample", self._incomplete))
        self._tell(messages.Done(self._duration) if self._failure is None else self._failure.error)
        self._ended()

    def _ended(self) -> None:
        if self._decoding is not None:
            self._decoding.cancel()
        for callback in self.on_ended:
            try:
                callback()
            except Exception:
                logger.exception("session %s: its end could not be dealt with", self.name)

    def _tell(self, event: Event) -> None:
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("session %s: a listener failed", self.name)
                self.listeners.remove(listener)
        self._hand_over(event)

    def _hand_over(self, event: Event | Progress) -> None:
        """Tell the client's side. When it fails, all audio accepted is still recognised: others may listen."""
        if self._orphaned:
            return
        try:
            self._deliver(event)
        except Exception:
            logger.exception("session %s: internal error", self.name)
            self.fail(INTERNAL)


def _words(words: Iterable[events.Word]) -> tuple[messages.Word, ...]:
    return tuple(messages.Word(word.text, word.start, word.end, word.confidence) for word in words)
