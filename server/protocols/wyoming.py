"""Wyoming, the protocol in which Home Assistant talks to speech services, over a TCP connection of its own.

An event is a line of JSON (`type`, `data`, and how many bytes of further data and of payload follow), then those bytes.

| Event of the client | What happens |
|---|---|
| `describe` | `info`: one speech-to-text program with one model and its languages |
| `ping` | `pong` |
| `transcribe` | the next audio is for the served model: another `name` is an `error`; `language` comes back with the text; the rest is ignored |
| `audio-start`, `audio-chunk` | 16-bit PCM, 8 to 48 kHz; of several channels the first one is heard |
| `audio-stop` | `transcript-start`, a `transcript-chunk` for each utterance (those heard earlier were sent earlier), `transcript` with all of the text, `transcript-stop`; then another `transcribe` may follow |
| others | ignored, as the protocol wants it |

Whatever goes wrong is an `error` with `text` and `code`, and closes the connection.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec
from parastream.model.errors import EngineError
from parastream.model.text import join
from parastream.server.protocols.base import Adapter, Admits, Request
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Done, Event, Final, Start
from parastream.server.wire.refusals import RefusalError

LONGEST_HEADER = 1 << 16
"""Bytes of a header, and of further data."""
LARGEST_PAYLOAD = 1 << 20
"""Bytes."""


class Header(msgspec.Struct):
    """The line that begins an event."""

    type: str
    data: dict[str, Any] | None = None
    data_length: int | None = None
    payload_length: int | None = None


class AudioFormat(msgspec.Struct):
    """Data of `audio-start` and `audio-chunk`."""

    rate: int
    width: int
    channels: int


class Transcribe(msgspec.Struct):
    """Data of `transcribe`."""

    name: str | None = None
    language: str | None = None
    context: Any = None


class EventReader:
    """Cuts a stream of bytes into events: (type, data, payload)."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._header: Header | None = None

    def push(self, data: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        self._bytes += data

    def next(self) -> tuple[str, dict[str, Any], bytes] | None:
        """The next event, or None until more bytes come.

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
        return header.type, (header.data or {}) | (_decode(more, dict[str, Any]) if more else {}), payload


def _header(line: bytes) -> Header:
    header: Header = _decode(line, Header)
    for name, most in (("data_length", LONGEST_HEADER), ("payload_length", LARGEST_PAYLOAD)):
        if not 0 <= (getattr(header, name) or 0) <= most:
            raise RefusalError("invalid_message", f"{name} is {getattr(header, name)}; allowed are 0 to {most}")
    return header


def _decode(data: bytes, type: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=type)
    except msgspec.ValidationError as error:
        raise RefusalError("invalid_message", str(error)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusalError("invalid_json", f"an event begins with one line of JSON: {error}") from error


def _convert(kind: str, data: dict[str, Any], type: Any) -> Any:
    try:
        return msgspec.convert(data, type)
    except msgspec.ValidationError as error:
        raise RefusalError("invalid_message", f"{kind}: {error}") from error


class Wyoming(Adapter):
    """One connection; see the module."""

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._reader = EventReader()
        self._wanted = Transcribe()
        self._transcription: Transcription | None = None  # that takes audio
        self._answers: dict[Transcription, tuple[Transcribe, list[str]]] = {}  # what was asked for, and texts so far

    def receive_text(self, text: str) -> None:
        """There are only bytes."""
        self.receive_audio(text.encode())

    def receive_audio(self, data: bytes) -> None:
        """Take bytes of the connection."""
        self._reader.push(data)
        while self.listening and (event := self._reader.next()) is not None:
            self._receive_event(*event)

    def _receive_event(self, kind: str, data: dict[str, Any], payload: bytes) -> None:
        match kind:
            case "describe":
                self._say("info", self._info())
            case "ping":
                self._say("pong", {"text": data.get("text")})
            case "transcribe":
                self._wanted = _convert(kind, data, Transcribe)
            case "audio-start":
                self._stop()
                self._begin(_convert(kind, data, AudioFormat))
            case "audio-chunk":
                format = _convert(kind, data, AudioFormat)
                if self._transcription is None:
                    self._begin(format)
                assert self._transcription is not None
                start = self._transcription.start
                if (format.rate, format.width, format.channels) != (start.rate, 2, start.channels):
                    raise RefusalError(
                        "unsupported", "audio-chunk: the format differs from that of the audio before it"
                    )
                self._transcription.send(payload)
            case "audio-stop":
                if self._transcription is None:
                    raise RefusalError("unexpected_message", "audio-stop without audio", ("audio-start", "audio-chunk"))
                self._stop()

    def _begin(self, format: AudioFormat) -> None:
        if format.width != 2:
            raise RefusalError(
                "unsupported", f"samples of {format.width} bytes; allowed are samples of 2 bytes", ("2",)
            )
        self._transcription = self.begin(
            Start(rate=format.rate, channels=format.channels, model=self._wanted.name or "")
        )
        self._answers[self._transcription] = self._wanted, []
        self._wanted = Transcribe()

    def _stop(self) -> None:
        if self._transcription is not None:
            self._transcription.end()
            self._transcription = None

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter`."""
        asked, texts = self._answers[transcription]
        match event:
            case Final() if event.text:
                if not texts:
                    self._say("transcript-start", _about(asked))
                texts.append(event.text)
                self._say("transcript-chunk", {"text": event.text if len(texts) == 1 else _after(texts)})
            case Done():
                if not texts:
                    self._say("transcript-start", _about(asked))
                del self._answers[transcription]
                self._say("transcript", {"text": join(texts)} | _about(asked))
                self._say("transcript-stop", {})

    def report(self, refusal: RefusalError) -> None:
        """See `Adapter`."""
        self._say("error", {"text": refusal.explained, "code": refusal.code})

    def _info(self) -> dict[str, Any]:
        try:
            name, languages = self.admission.model, self.admission.languages
        except EngineError as error:
            raise RefusalError("not_ready", f"{error}, try again later") from error
        about = {
            "attribution": {"name": "parastream", "url": ""},
            "installed": True,
            "version": version("parastream"),
        }
        model = about | {
            "name": name,
            "description": "Paraformer",
            "languages": list(languages),
        }
        program = about | {
            "name": "parastream",
            "description": "Real-time speech to text",
            "models": [model],
            "supports_transcript_streaming": True,
        }
        return {"asr": [program]} | {kind: [] for kind in ("tts", "handle", "intent", "wake", "mic", "snd")}

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        encoded = msgspec.json.encode(data) if data else b""
        header = {"type": kind, "version": version("parastream")} | ({"data_length": len(encoded)} if data else {})
        self.send(msgspec.json.encode(header) + b"\n" + encoded)


def _about(asked: Transcribe) -> dict[str, Any]:
    about = {"language": asked.language, "context": asked.context}
    return {name: value for name, value in about.items() if value is not None}


def _after(texts: list[str]) -> str:
    """The last text with what is between it and those before it."""
    return join(texts[-2:])[len(texts[-2]) :]
