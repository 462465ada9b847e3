"""Wyoming, the protocol in which Home Assistant talks to speech services, over a TCP connection of its own.

An event is a line of JSON (`type`, `data`, and how many bytes of further data and of payload follow), then those bytes.

| Event of the client | What happens |
|---|---|
| `describe` | `info`: one speech-to-text program with one model and its languages |
| `ping` | `pong` |
| `transcribe` | the next audio is for the served model: another `name` is an `error`; `language` is heeded where the models know it, and comes back with the text; where none is named, the one that was found does; the rest is ignored |
| `audio-start`, `audio-chunk` | 16-bit PCM, 8 to 48 kHz; several channels are mixed |
| `audio-stop` | `transcript-start`, a `transcript-chunk` for each utterance (as they end, so the first ones are sent earlier), `transcript` with all of the text, `transcript-stop`; then another `transcribe` may follow |
| others | ignored, as the protocol wants it |

Every error is an `error` event with `text` and `code`, and closes the connection.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

from importlib.metadata import version
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from parastream.model.text import join
from parastream.server.protocols.base import Adapter, Admits, Request
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.explain import Reader, explain
from parastream.server.wire.messages import Done, ErrorCode, Event, Final, Start
from parastream.server.wire.refusals import RefusalError

_VERSION = version("parastream")  # read from the disk
LONGEST_HEADER = 1 << 16
"""Bytes of a header, and of further data."""
LARGEST_PAYLOAD = 1 << 20
"""Bytes."""


T = TypeVar("T")


# --- client to server --------------------------------------------------------------------------------


class Header(Struct, frozen=True):
    """The line that begins an event. Here as everywhere, fields that are not listed are ignored."""

    type: str
    data: dict[str, Any] | None = None
    data_length: int | None = None
    payload_length: int | None = None


class Ping(Struct, frozen=True):
    """Data of `ping`."""

    text: Any = None
    """Comes back as it is."""


class AudioFormat(Struct, frozen=True):
    """Data of `audio-start` and `audio-chunk`."""

    rate: int
    width: int
    """Bytes in a sample."""
    channels: int


class Transcribe(Struct, frozen=True):
    """Data of `transcribe`."""

    name: str | None = None
    """Of the model."""
    language: str | None = None
    context: Any = None
    """Comes back as it is."""


# --- server to client --------------------------------------------------------------------------------


class AnswerHeader(Struct, frozen=True, kw_only=True):
    """The line that begins an event."""

    type: str
    version: str
    data_length: int | UnsetType = UNSET


class Answer(Struct, frozen=True, kw_only=True):
    """Data of an event."""

    kind: ClassVar[str]
    """Type of the event."""


class Attribution(Struct, frozen=True):
    """Who made something."""

    name: str = "parastream"
    url: str = ""


class _About(Struct, frozen=True, kw_only=True):
    attribution: Attribution = Attribution()
    installed: bool = True
    version: str
    name: str


class ModelInfo(_About, frozen=True, kw_only=True):
    """The model that is served."""

    description: str = "Paraformer"
    languages: tuple[str, ...]


class ProgramInfo(_About, frozen=True, kw_only=True):
    """This server."""

    name: str = "parastream"
    description: str = "Real-time speech to text"
    models: tuple[ModelInfo, ...]
    supports_transcript_streaming: bool = True


class Info(Answer, frozen=True, kw_only=True):
    """Answer to `describe`: programs by what they do."""

    kind: ClassVar[str] = "info"
    asr: tuple[ProgramInfo, ...]
    tts: tuple[()] = ()
    handle: tuple[()] = ()
    intent: tuple[()] = ()
    wake: tuple[()] = ()
    mic: tuple[()] = ()
    snd: tuple[()] = ()


class Pong(Answer, frozen=True, kw_only=True):
    """Answer to `ping`."""

    kind: ClassVar[str] = "pong"
    text: Any


class TranscriptStart(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """Texts follow."""

    kind: ClassVar[str] = "transcript-start"
    language: str | None = None
    context: Any = None


class TranscriptChunk(Answer, frozen=True, kw_only=True):
    """The text of an utterance, with the space before it."""

    kind: ClassVar[str] = "transcript-chunk"
    text: str


class Transcript(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """All of the text."""

    kind: ClassVar[str] = "transcript"
    text: str
    language: str | None = None
    context: Any = None


class TranscriptStop(Answer, frozen=True, kw_only=True):
    """No text follows."""

    kind: ClassVar[str] = "transcript-stop"


class ErrorAnswer(Answer, frozen=True, kw_only=True):
    """What went wrong."""

    kind: ClassVar[str] = "error"
    text: str
    code: ErrorCode


def encode(answer: Answer) -> bytes:
    """Return an event: its header, and its data if there are any."""
    data = msgspec.json.encode(answer)
    header = AnswerHeader(type=answer.kind, version=_VERSION)
    if data == b"{}":
        return msgspec.json.encode(header) + b"\n"
    return msgspec.json.encode(msgspec.structs.replace(header, data_length=len(data))) + b"\n" + data


# --- framing -----------------------------------------------------------------------------------------


_header_reader = Reader[Header](Header, "an event begins with one line of JSON")
_data_reader = Reader[dict[str, Any]](dict[str, Any], "the data of an event is one JSON object")


class EventReader:
    """Cuts a stream of bytes into events."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._header: Header | None = None

    def push(self, data: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        self._bytes += data

    def next(self) -> tuple[str, dict[str, Any], bytes] | None:
        """Take the next event off the stream.

        Returns:
            Its type, data and payload; None until more bytes come.

        Raises:
            RefusalError: this is not Wyoming, or too large.
        """
        if self._header is None:
            end = self._bytes.find(b"\n")
            if max(end, len(self._bytes) if end < 0 else 0) > LONGEST_HEADER:
                raise RefusalError("invalid_message", f"the header is longer than {LONGEST_HEADER} bytes")
            if end < 0:
                return None
            self._header = _header(bytes(self._bytes[:end]))
            del self._bytes[: end + 1]
        header = self._header
        split, size = header.data_length or 0, (header.data_length or 0) + (header.payload_length or 0)
        if len(self._bytes) < size:
            return None
        more, payload = bytes(self._bytes[:split]), bytes(self._bytes[split:size])
        del self._bytes[:size]
        self._header = None
        return header.type, (header.data or {}) | (_data_reader.read(more) if more else {}), payload


def _header(line: bytes) -> Header:
    header = _header_reader.read(line)
    for name, most in (("data_length", LONGEST_HEADER), ("payload_length", LARGEST_PAYLOAD)):
        if not 0 <= (getattr(header, name) or 0) <= most:
            raise RefusalError("invalid_message", f"{name} is {getattr(header, name)}; allowed are 0 to {most}")
    return header


def _convert(kind: str, data: dict[str, Any], wanted: type[T]) -> T:
    """Read the data of an event.

    Raises:
        RefusalError: a field is missing or of another type.
    """
    try:
        return msgspec.convert(data, wanted)
    except msgspec.ValidationError as error:
        raise RefusalError("invalid_message", f"{kind}: {error}", explain(error, wanted, data).allowed) from error


# --- the adapter -------------------------------------------------------------------------------------


class Wyoming(Adapter):
    """One connection of a Wyoming client."""

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._reader = EventReader()
        self._wanted = Transcribe()
        self._transcription: Transcription | None = None  # that takes audio
        self._answers: dict[Transcription, tuple[Transcribe, list[str]]] = {}  # what was asked for, and texts so far

    def receive_text(self, text: str) -> None:
        """Take text as the bytes that it is."""
        self.receive_audio(text.encode())

    def receive_audio(self, data: bytes) -> None:
        """Take bytes of the connection."""
        self._reader.push(data)
        while self.listening and (event := self._reader.next()) is not None:
            self.unframed += 1
            self._receive_event(*event)

    def _receive_event(self, kind: str, data: dict[str, Any], payload: bytes) -> None:
        match kind:
            case "describe":
                self._say(self._info())
            case "ping":
                self._say(Pong(text=_convert(kind, data, Ping).text))
            case "transcribe":
                self._wanted = _convert(kind, data, Transcribe)
            case "audio-start":
                self._stop()
                self._begin(_convert(kind, data, AudioFormat))
            case "audio-chunk":
                audio = _convert(kind, data, AudioFormat)
                transcription = self._transcription or self._begin(audio)
                start = transcription.start
                if (audio.rate, audio.width, audio.channels) != (start.rate, 2, start.channels):
                    raise RefusalError(
                        "unsupported", "audio-chunk: the format differs from that of the audio before it"
                    )
                transcription.send(payload)
            case "audio-stop":
                if self._transcription is None:
                    raise RefusalError("unexpected_message", "audio-stop without audio", ("audio-start", "audio-chunk"))
                self._stop()

    def _begin(self, audio: AudioFormat) -> Transcription:
        if audio.width != 2:
            raise RefusalError("unsupported", f"samples of {audio.width} bytes; allowed are samples of 2 bytes", ("2",))
        start = Start(rate=audio.rate, channels=audio.channels, model=self._wanted.name or "")
        transcription = self._transcription = self.begin(start, language=self._wanted.language or "")
        self._answers[transcription] = self._wanted, []
        self._wanted = Transcribe()
        return transcription

    def _stop(self) -> None:
        if self._transcription is not None:
            self._transcription.end()
            self._transcription = None

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        asked, texts = self._answers[transcription]
        match event:
            case Final() if event.text:
                if asked.language is None and event.language:
                    asked = msgspec.structs.replace(asked, language=event.language)
                    self._answers[transcription] = asked, texts
                if not texts:
                    self._say(TranscriptStart(language=asked.language, context=asked.context))
                texts.append(event.text)
                self._say(TranscriptChunk(text=event.text if len(texts) == 1 else _after(texts)))
            case Done():
                if not texts:
                    self._say(TranscriptStart(language=asked.language, context=asked.context))
                del self._answers[transcription]
                self._say(Transcript(text=join(texts), language=asked.language, context=asked.context))
                self._say(TranscriptStop())

    def report(self, refusal: RefusalError) -> None:
        """See `Adapter.report`."""
        self._say(ErrorAnswer(text=refusal.explained, code=refusal.code))

    def _info(self) -> Info:
        model = ModelInfo(version=_VERSION, name=self.admission.model, languages=self.admission.languages)
        return Info(asr=(ProgramInfo(version=_VERSION, models=(model,)),))

    def _say(self, answer: Answer) -> None:
        self.send(encode(answer))


def _after(texts: list[str]) -> str:
    """Return the last text with what separates it from those before it."""
    return join(texts[-2:])[len(texts[-2]) :]
