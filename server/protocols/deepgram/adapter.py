"""Deepgram live transcription at `/v1/listen`: everything is asked for in the query, then audio comes in binary messages.

| Parameter | What happens |
|---|---|
| `encoding`, `sample_rate`, `channels` | `linear16`, `linear32` (float), `mulaw`, `alaw`; without `encoding` the audio begins with a WAV header, which says all three |
| `multichannel` | each channel is recognised; otherwise the first is |
| `interim_results` | the text so far, whole, with `is_final` false |
| `endpointing` | milliseconds of silence (100 to 10000, others become the nearest) that end an utterance, whose result then has `speech_final`; 600 if it is `true` or left out; `false`: utterances end as well, but none has `speech_final` |
| `utterance_end_ms` | `UtteranceEnd` when no word follows for so long (1000 or more; needs `interim_results`); also ends an utterance if `endpointing` is longer |
| `vad_events` | `SpeechStarted` |
| `punctuate`, `smart_format` | marks and capitals, and `punctuated_word`; otherwise plain words |
| `callback`, `redact` | refused: results go to the client as they are, and it has to be able to rely on that |
| `model`, `language`, `diarize`, `keyterm`, `numerals` and all others | ignored: the server has its own model, and `model_info` names it |

| Message of the client | What happens |
|---|---|
| `KeepAlive` | the connection stays; without it and without audio it is closed after 10 s (`NET-0001`) |
| `Finalize` | what is being said ends here, in all channels; a result with `from_finalize` for each always answers, with the text if there was any |
| `CloseStream`, or an empty binary message | the remaining results, `Metadata`, close |
| `Configure` | `ConfigureFailure` |
| others | `Error` (`SchemaError`), the results of all audio so far, close 1008 |

A result without words is sent like any other, so that there is exactly one with `is_final` for each utterance. One that was
cut because it became too long has no `speech_final`.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import hashlib
import math
import string
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct
from parastream.model.errors import AudioError, EngineError
from parastream.server.protocols.base import Adapter, Admits, Request
from parastream.server.protocols.wav import WavInput
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire import messages
from parastream.server.wire.messages import (
    Done,
    EndpointOptions,
    Event,
    Final,
    Flushed,
    Partial,
    SpeechStarted,
    Start,
    Word,
)
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import AudioFormat, Encoding, EndpointConfig

_ENCODINGS: dict[str, Literal["s16le", "f32le", "mulaw", "alaw"]] = {
    "linear16": "s16le",
    "linear32": "f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
}
_CLOSES = {
    "idle_timeout": ("NET-0001", 1011),
    "internal": ("NET-0000", 1011),
    "invalid_audio": ("DATA-0000", 1008),
    "unsupported": ("DATA-0000", 1008),
    "invalid_json": ("DATA-0000", 1008),
    "invalid_message": ("DATA-0000", 1008),
}
"""What Deepgram calls errors, and how it closes after them."""
_IDLE = 10.0
_MARKS = string.punctuation + "。，、？！；：…“”‘’（）《》"
_ARRIVAL = 0.2
"""Seconds after which an utterance that begins has been told: its first speech, the delay of a resampler, a frame."""


class BadRequest(messages.Error, frozen=True, tag="error", omit_defaults=True):
    """Body of an answer to a request that is refused: our fields, and Deepgram's."""

    err_code: str = ""
    err_msg: str = ""
    request_id: str = ""


class _BadRequestError(RefusalError):
    @property
    def error(self) -> messages.Error:
        text = f"{self.message}; allowed: {', '.join(self.allowed)}" if self.allowed else self.message
        return BadRequest(
            self.code,
            self.message,
            self.allowed,
            err_code="Bad Request",
            err_msg=f"Bad Request: {text}",
            request_id=str(uuid.uuid4()),
        )


# --- what a client may say ---------------------------------------------------------------------------


class KeepAlive(Struct, frozen=True, tag_field="type", tag="KeepAlive"):
    """The client is still there."""


class Finalize(Struct, frozen=True, tag_field="type", tag="Finalize"):
    """What is being said ends here."""

    channel: int | None = None


class CloseStream(Struct, frozen=True, tag_field="type", tag="CloseStream"):
    """The audio has ended."""


class Configure(Struct, frozen=True, tag_field="type", tag="Configure"):
    """Changes of the session, which has none."""

    keyterms: tuple[str, ...] | None = None
    features: dict[str, bool] | None = None


_decoder = msgspec.json.Decoder(KeepAlive | Finalize | CloseStream | Configure)


@dataclass(frozen=True)
class Options:
    """What the query asks for."""

    format: AudioFormat | None
    """None: a WAV header says it."""
    multichannel: bool
    interim_results: bool
    punctuate: bool
    vad_events: bool
    speech_final: bool
    """Whether ends of utterances are marked."""
    min_silence: float | None
    """Seconds that end an utterance; None: as always."""
    utterance_end: float | None
    """Seconds without a word before `UtteranceEnd`."""

    def start(self, format: AudioFormat) -> Start:
        """What is asked of the recogniser."""
        endpoint = EndpointOptions() if self.min_silence is None else EndpointOptions(min_silence=self.min_silence)
        return Start(
            format=format.encoding.value,
            rate=format.rate,
            channels=format.channels,
            channel="all" if self.multichannel else 0,
            partials=self.interim_results,
            punctuation=self.punctuate,
            endpoint=endpoint,
        )


def read_options(request: Request) -> Options:
    """Read the query.

    Raises:
        RefusalError: a parameter cannot be had.
    """
    for name in ("callback", "redact"):
        if request.get(name, "false") != "false":
            raise _BadRequestError("unsupported", f"{name} is not supported; leave it out")
    interim_results = _flag(request, "interim_results")
    endpointing = request.get("endpointing", "true").lower()
    silence = None
    if endpointing not in ("true", "false"):
        silence = min(max(_number(request, "endpointing", 0, "milliseconds, true or false"), 100), 10_000) / 1000
    utterance_end = None
    if "utterance_end_ms" in request.query:
        utterance_end = _number(request, "utterance_end_ms", 1000, "milliseconds from 1000 on") / 1000
        if not interim_results:
            raise _BadRequestError("unsupported", "utterance_end_ms needs interim_results=true")
        silence = silence and min(silence, utterance_end)
    return Options(
        format=_format(request),
        multichannel=_flag(request, "multichannel"),
        interim_results=interim_results,
        punctuate=_flag(request, "punctuate") or _flag(request, "smart_format"),
        vad_events=_flag(request, "vad_events"),
        speech_final=endpointing != "false",
        min_silence=silence,
        utterance_end=utterance_end,
    )


def _format(request: Request) -> AudioFormat | None:
    encoding = request.get("encoding")
    if not encoding:
        return None
    if encoding not in _ENCODINGS:
        raise _BadRequestError(
            "unsupported",
            f"encoding {encoding!r} is not supported (leave it out for audio that begins with a WAV header)",
            tuple(_ENCODINGS),
        )
    if "sample_rate" not in request.query and encoding.startswith("linear"):
        raise _BadRequestError("unsupported", f"encoding={encoding} needs a sample_rate as well")
    rate = _number(request, "sample_rate", 1, "Hz") if "sample_rate" in request.query else 8000
    channels = _number(request, "channels", 1, "whole numbers") if "channels" in request.query else 1
    try:
        return AudioFormat(Encoding(_ENCODINGS[encoding]), rate, channels)
    except AudioError as error:
        raise _BadRequestError("unsupported", str(error)) from error


def _flag(request: Request, name: str) -> bool:
    value = request.get(name, "false").lower()
    if value not in ("true", "false"):
        raise _BadRequestError("unsupported", f"{name}={request.get(name)} is not supported", ("true", "false"))
    return value == "true"


def _number(request: Request, name: str, low: int, allowed: str) -> int:
    text = request.get(name)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= low):
        raise _BadRequestError("unsupported", f"{name}={text} is not supported; allowed: {allowed}")
    return int(text)


# --- the conversation --------------------------------------------------------------------------------


@dataclass(eq=False)
class _Channel:
    """What has been told of one channel."""

    index: int
    endpoint: EndpointConfig
    open: dict[int, float] = field(default_factory=dict)
    """Starts of open utterances."""
    started: float = -1.0
    """Start of the latest."""
    held: Final | None = None
    """The newest final while a `Finalize` waits for its answer, which this may be."""
    told: float = 0.0
    """Where the last final result ends."""
    last_word: float | None = None
    """Where the last word ends, if no `UtteranceEnd` followed."""

    def was_cut(self, final: Final) -> bool:
        """Whether an utterance ended only because it was too long: then the next begins right there."""
        long = final.end - final.start >= self.endpoint.max_utterance - self.endpoint.cut_search
        return long and self.started == final.end


class Deepgram(Adapter):
    """One connection of a Deepgram client."""

    idle_timeout: ClassVar[float | None] = _IDLE
    subprotocols: ClassVar[tuple[str, ...]] = ("token", "bearer")

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._options = read_options(request)
        self._request_id = str(uuid.uuid4())
        self._created = datetime.now(UTC)
        self._digest = hashlib.sha256()
        self._wav = WavInput()
        self._transcription: Transcription | None = None
        self._channels: list[_Channel] = []
        self._finalizing = 0  # `Finalize` messages that wait for their answer
        self._judged = 0.0  # seconds of audio in which every beginning utterance has been told
        self._looked = 0.0  # those that have been looked at
        self._closing = False

    @classmethod
    def check(cls, request: Request) -> None:
        read_options(request)

    def open(self) -> None:
        try:
            self._model = self.admission.model
        except EngineError as error:
            raise RefusalError("not_ready", f"{error}, try again later") from error
        if self._options.format is not None:
            self._begin(self._options.format)

    def _begin(self, format: AudioFormat) -> Transcription:
        transcription = self._transcription = self.begin(self._options.start(format))
        self._channels = [_Channel(index, config.endpoint) for index, config in enumerate(transcription.configs)]
        return transcription

    @property
    def listening(self) -> bool:
        """Whether the client may send more."""
        return super().listening and not self._closing

    # --- from the client

    def receive_audio(self, data: bytes) -> None:
        if not data:
            self._close_stream()
            return
        self._digest.update(data)
        transcription = self._transcription
        if self._options.format is None:
            data = self._wav.push(data)
            if transcription is None and self._wav.known:
                transcription = self._begin(self._wav_format())
        if transcription is not None and data:
            transcription.send(data)

    def _wav_format(self) -> AudioFormat:
        header = self._wav.header
        if header is None:
            raise RefusalError(
                "invalid_audio", "the audio has no WAV header; raw audio needs an encoding", tuple(_ENCODINGS)
            )
        try:
            return AudioFormat(Encoding(header.format), header.rate, header.channels)
        except AudioError as error:
            raise RefusalError("unsupported", f"a WAV header says: {error}") from error

    def receive_text(self, text: str) -> None:
        try:
            message = _decoder.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            allowed = ("KeepAlive", "Finalize", "CloseStream", "Configure")
            self._tell_error("SchemaError", str(error), "DATA-0000", text[:1000])
            raise RefusalError("invalid_message", f"a text message cannot be read: {error}", allowed) from error
        match message:
            case KeepAlive():
                self.settle()
            case Finalize():
                self._finalize()
            case CloseStream():
                self._close_stream()
            case Configure(keyterms=keyterms):
                self.send(
                    {
                        "type": "ConfigureFailure",
                        "request_id": self._request_id,
                        "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED" if keyterms else "CONFIGURE_INTERNAL_ERROR",
                        "description": f"nothing can be changed while audio comes in (the model is {self._model})",
                    }
                )

    def _finalize(self) -> None:
        if self._transcription is None:
            self._send_results(_Channel(0, EndpointConfig()), (), "", 0.0, 0.0, is_final=True, from_finalize=True)
        else:
            self._finalizing += 1
            self._transcription.flush()

    def _close_stream(self) -> None:
        self._closing = True
        if self._transcription is None:
            self._end(0.0)
        else:
            self._transcription.end()

    # --- from the recogniser

    def settle(self) -> None:
        # Of what was looked at before the last message, every event has arrived.
        self._judged = self._looked - _ARRIVAL
        for channel in self._channels:
            self._tell_utterance_end(channel, self._judged)
        if self._transcription is not None:
            self._looked = self._transcription.seconds - self._transcription.backlog

    def apply(self, transcription: Transcription, event: Event) -> None:
        match event:
            case SpeechStarted():
                channel = self._channels[event.channel]
                channel.open[event.utterance] = channel.started = event.time
                self._tell_utterance_end(channel, self._judged)
                if self._options.vad_events:
                    self.send({"type": "SpeechStarted", "channel": self._place(channel), "timestamp": event.time})
            case Partial():
                channel = self._channels[event.channel]
                if event.utterance == min(channel.open):  # the text of an earlier one is not final yet
                    text = event.stable + event.draft
                    self._send_results(channel, event.words, text, event.start, event.end)
            case Final():
                channel = self._channels[event.channel]
                del channel.open[event.utterance]
                if self._finalizing:
                    self._release(channel)
                    channel.held = event
                else:
                    self._send_final(channel, event)
            case Flushed():
                self._finalizing -= 1
                for channel in self._channels:
                    self._answer_finalize(channel, event.time)
            case Done():
                self._end(event.duration)

    def _send_final(self, channel: _Channel, final: Final, *, from_finalize: bool = False) -> None:
        self._send_results(
            channel,
            final.words,
            final.text,
            final.start,
            final.end,
            is_final=True,
            speech_final=from_finalize or (self._options.speech_final and not channel.was_cut(final)),
            from_finalize=from_finalize,
        )
        channel.told = final.end
        if final.words:
            channel.last_word = final.words[-1].end
        self._tell_utterance_end(channel, self._judged)

    def _release(self, channel: _Channel) -> None:
        """Send a final that is held back, if there is one."""
        held, channel.held = channel.held, None
        if held is not None:
            self._send_final(channel, held)

    def _answer_finalize(self, channel: _Channel, time: float) -> None:
        held, channel.held = channel.held, None
        if held is not None:
            self._send_final(channel, held, from_finalize=True)
        else:
            end = max(time, channel.told)
            self._send_results(channel, (), "", channel.told, end, is_final=True, speech_final=True, from_finalize=True)
            channel.told = end

    def _tell_utterance_end(self, channel: _Channel, now: float) -> None:
        """Tell it if no word followed the last one for long enough, with `now` seconds of audio behind."""
        wait = self._options.utterance_end
        if wait is None or channel.last_word is None:
            return
        if channel.open:
            now = min(channel.open.values()) + channel.endpoint.pre_roll
        if now - channel.last_word >= wait:
            place = self._place(channel)
            self.send({"type": "UtteranceEnd", "channel": place, "last_word_end": channel.last_word})
            channel.last_word = None

    def _end(self, duration: float) -> None:
        for channel in self._channels:
            self._release(channel)
            self._tell_utterance_end(channel, duration)
        self.send(
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": self._request_id,
                "sha256": self._digest.hexdigest(),
                "created": self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "duration": duration,
                "channels": len(self._channels),
            }
        )
        self.close()

    def report(self, refusal: RefusalError) -> None:
        for channel in self._channels:
            self._release(channel)
        code, close_code = _CLOSES.get(refusal.code, (refusal.code, refusal.close_code))
        message = refusal.explained
        if refusal.code == "idle_timeout":
            message = f"no audio and no KeepAlive for {self.idle_timeout:g} s"
        if refusal.code != "invalid_message":  # that has been told
            self._tell_error(code, message, code, message)
        self.close(close_code, f"{code}: {message}".encode()[:123].decode(errors="ignore"))

    # --- to the client

    def _place(self, channel: _Channel) -> list[int]:
        return [channel.index, max(1, len(self._channels))]

    def _tell_error(self, variant: str, description: str, code: str, message: str) -> None:
        fields = {"variant": variant, "description": description, "code": code, "message": message}
        self.send({"type": "Error", **fields})

    def _send_results(
        self,
        channel: _Channel,
        words: Sequence[Word],
        text: str,
        start: float,
        end: float,
        *,
        is_final: bool = False,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> None:
        confidence = math.fsum(word.confidence for word in words) / len(words) if words else 0.0
        alternative = {
            "transcript": text,
            "confidence": round(confidence, 4),
            "words": [self._word(word) for word in words],
        }
        info = {"name": self._model, "version": version("parastream"), "arch": "paraformer"}
        message = {
            "type": "Results",
            "channel_index": self._place(channel),
            "duration": round(end - start, 3),
            "start": start,
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative]},
            "metadata": {
                "request_id": self._request_id,
                "model_info": info,
                "model_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, self._model)),
            },
        }
        self.send(message, replaces=None if is_final else ("interim", channel.index))

    def _word(self, word: Word) -> dict[str, Any]:
        plain = word.text.strip(_MARKS).lower() or word.text
        punctuated = {"punctuated_word": word.text} if self._options.punctuate else {}
        times = {"start": word.start, "end": word.end, "confidence": word.confidence}
        return {"word": plain, **times, **punctuated}
