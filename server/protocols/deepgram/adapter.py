"""Deepgram live transcription at `/v1/listen`: everything is asked for in the query, then audio comes in binary messages.

| Parameter | What happens |
|---|---|
| `encoding`, `sample_rate`, `channels` | `linear16`, `linear32` (float), `mulaw`, `alaw`; without `encoding`, and with `opus`, `ogg-opus`, `flac`, `mp3`, `aac`, the audio says itself what it is: WAV, WebM and MP4 (as `MediaRecorder` makes them), Ogg, MP3, FLAC, AAC |
| `multichannel` | every channel is transcribed; otherwise all of them mixed |
| `interim_results` | the text so far, whole, with `is_final` false |
| `endpointing` | milliseconds of silence (clamped to 300 to 10000) that end an utterance, whose result then has `speech_final`; 600 if it is `true` or left out; `false`: utterances end as well, but none has `speech_final` |
| `utterance_end_ms` | `UtteranceEnd` after that long without a word (1000 or more; needs `interim_results`); also ends an utterance if `endpointing` is longer |
| `vad_events` | `SpeechStarted` |
| `punctuate`, `smart_format` | marks and capitals, and `punctuated_word`; otherwise plain words |
| `numerals`, `smart_format` | numbers as people write them, in results with `is_final` |
| `profanity_filter` | swear words are shown as `f***` |
| `callback`, `redact` | refused: a client that asks for them relies on them, and results go to it unaltered |
| `language` | what is spoken, where the models know it (`en-US` counts as `en`); otherwise, and with `multi`, they find out. With `multi` or `detect_language`, final results have `languages` |
| `keyterm`, `keywords` | hotwords; the intensifier behind a keyword's colon is its weight |
| `model`, `diarize` and all others | ignored: the server has its own model, and `model_info` names it |

| Message of the client | What happens |
|---|---|
| `KeepAlive` | keeps the connection open; after 10 s without it and without audio the server closes (`NET-0001`) |
| `Finalize` | open utterances end here, in all channels; every channel gets a result with `from_finalize`, with the text if there was any |
| `CloseStream`, or an empty binary message | the remaining results, `Metadata`, close |
| `Configure` | `keyterms` count from here on, in place of those before, and `ConfigureSuccess` names them; `features` that would change something are a `ConfigureFailure`, and so are too many `keyterms` |
| others | `Error` (`SchemaError`), the results of all audio so far, close 1008 |

A result without words is sent like any other, so every utterance has exactly one result with `is_final`. An utterance
that was cut because it became too long has no `speech_final`.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar

from msgspec import UNSET
from parastream.model.hotwords import MOST
from parastream.server.protocols.base import Admits, Request
from parastream.server.protocols.deepgram import messages
from parastream.server.protocols.deepgram.live import Live
from parastream.server.protocols.deepgram.messages import ClientMessage, CloseStream, Configure, Finalize, KeepAlive
from parastream.server.protocols.deepgram.options import read_options
from parastream.server.protocols.deepgram.words import mean_confidence, model_info, model_uuid, spoken_words
from parastream.server.protocols.terms import plain
from parastream.server.sessions.transcription import Progress, Transcription
from parastream.server.wire.explain import Reader
from parastream.server.wire.messages import (
    Done,
    Event,
    Final,
    Flushed,
    Partial,
    SpeechEnded,
    SpeechStarted,
    Word,
)
from parastream.server.wire.refusals import RefusalError, shortened
from parastream.streaming import AudioFormat, EndpointConfig

_CLOSES = {
    "idle_timeout": ("NET-0001", 1011),
    "internal": ("NET-0000", 1011),
    "invalid_audio": ("DATA-0000", 1008),
    "unsupported": ("DATA-0000", 1008),
    "too_large": ("DATA-0000", 1008),
    "invalid_json": ("DATA-0000", 1008),
    "invalid_message": ("DATA-0000", 1008),
}
"""What Deepgram calls errors, and how it closes after them."""
_IDLE = 10.0


_reader = Reader[ClientMessage](ClientMessage)


@dataclass(eq=False)
class _Channel:
    """What has been told of one channel."""

    index: int
    endpoint: EndpointConfig
    open: dict[int, float] = field(default_factory=dict)
    """Starts of open utterances."""
    cut: set[int] = field(default_factory=set)
    """Utterances that ended only because they were too long, until their final is sent."""
    settled: float = 0.0
    """Seconds before which no more speech will be found to begin."""
    held: Final | None = None
    """The newest final while a `Finalize` waits for its answer: it may turn out to be the answer."""
    told: float = 0.0
    """Where the last final result ends."""
    last_word: float | None = None
    """Where the last word ends, if no `UtteranceEnd` followed."""


class Deepgram(Live):
    """One connection of a Deepgram client."""

    idle_timeout: ClassVar[float | None] = _IDLE

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._options = read_options(request)
        self._created = datetime.now(UTC)
        self._digest = hashlib.sha256()
        self._channels: list[_Channel] = []
        self._finalizing = 0  # `Finalize` messages that wait for their answer

    @classmethod
    def check(cls, request: Request) -> None:
        """Read the query. See `Adapter.check`."""
        read_options(request)

    @property
    def _format(self) -> AudioFormat | None:
        return self._options.format

    def open(self) -> None:
        """Begin, if the query says what the audio is."""
        self._model = self.admission.model
        if self._options.format is not None:
            self._begin(self._options.format)

    def _begin(self, audio: AudioFormat | None) -> Transcription:
        if audio is None and self._options.multichannel and self._options.channels == 1:
            raise RefusalError("unsupported", "multichannel needs the number of channels if the audio is encoded")
        start = self._options.start(audio, self.usable(self._options.hotwords))
        transcription = self._transcription = self.begin(start, language=self._options.language)
        self._channels = [_Channel(index, config.endpoint) for index, config in enumerate(transcription.configs)]
        return transcription

    # --- from the client

    def receive_audio(self, data: bytes) -> None:
        """Take audio, whose digest `Metadata` tells. See `Live.receive_audio`."""
        self._digest.update(data)
        super().receive_audio(data)

    def receive_text(self, text: str) -> None:
        """See `Adapter.receive_text`."""
        try:
            message = _reader.read(text)
        except RefusalError as refusal:
            self._tell_error("SchemaError", refusal.explained, "DATA-0000", text[:80])
            raise RefusalError("invalid_message", refusal.message, refusal.allowed) from refusal
        match message:
            case KeepAlive():
                pass
            case Finalize():
                self._finalize()
            case CloseStream():
                self._close_stream()
            case Configure():
                self._configure(message)

    def _configure(self, wanted: Configure) -> None:
        """Change key terms, the only thing that can be changed while audio comes in."""
        keyterms, most = wanted.keyterms, MOST - len(self.admission.expected)
        features, present = wanted.features or {}, self._options.features
        changed = [name for name, value in features.items() if value != present.get(name, False)]
        if changed:
            message = f"{shortened(', '.join(changed))}: features cannot be changed any more; keyterms can"
            self._refuse_to_configure("CONFIGURE_INTERNAL_ERROR", message)
        elif keyterms is None:
            self.send(messages.ConfigureSuccess(self._request_id))
        elif len(keyterms) > most:
            message = f"{len(keyterms)} keyterms; allowed are {most}"
            self._refuse_to_configure("CONFIGURE_KEYTERM_LIMIT_EXCEEDED", message)
        else:
            self._options = replace(self._options, keyterms=keyterms)
            if self._transcription is not None:
                self.expect(self._transcription, self._options.hotwords)
            found = tuple(each.term for each in self.usable(plain(keyterms)))
            self.send(messages.ConfigureSuccess(self._request_id, found))

    def _refuse_to_configure(self, code: messages.ConfigureFailureCode, message: str) -> None:
        refusal = RefusalError("unsupported", message)
        self.complain(refusal)
        self.send(messages.ConfigureFailure(self._request_id, code, refusal.message))

    def _finalize(self) -> None:
        if self._transcription is None:
            self._send_results(_Channel(0, EndpointConfig()), (), "", 0.0, 0.0, is_final=True, from_finalize=True)
        else:
            self._finalizing += 1
            self._transcription.flush()

    def _end_unheard(self) -> None:
        self._end(0.0)

    # --- from the transcription

    def advance(self, transcription: Transcription, progress: Progress) -> None:
        """Tell of silence. See `Adapter.advance`."""
        channel = self._channels[progress.channel]
        channel.settled = progress.settled
        self._tell_utterance_end(channel, channel.settled)

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        match event:
            case SpeechStarted():
                self._begin_utterance(self._channels[event.channel], event)
            case Partial():
                channel = self._channels[event.channel]
                if event.utterance == min(channel.open):  # the text of an earlier one is not final yet
                    text = event.stable + event.draft
                    self._send_results(channel, event.words, text, event.start, event.end)
            case SpeechEnded():
                if event.reason == "cut":
                    self._channels[event.channel].cut.add(event.utterance)
            case Final():
                self._finish_utterance(self._channels[event.channel], event)
            case Flushed():
                self._finalizing -= 1
                for channel in self._channels:
                    self._answer_finalize(channel, event.time)
            case Done():
                self._end(event.duration)

    def _begin_utterance(self, channel: _Channel, event: SpeechStarted) -> None:
        channel.open[event.utterance] = event.time
        self._tell_utterance_end(channel, channel.settled)
        if self._options.vad_events:
            self.send(messages.SpeechStarted(self._place(channel), event.time))

    def _finish_utterance(self, channel: _Channel, final: Final) -> None:
        """Send a final, or hold it while a `Finalize` waits for its answer."""
        del channel.open[final.utterance]
        if self._finalizing:
            self._release(channel)
            channel.held = final
        else:
            self._send_final(channel, final)

    def _send_final(self, channel: _Channel, final: Final, *, from_finalize: bool = False) -> None:
        self._send_results(
            channel,
            final.words,
            final.text,
            final.start,
            final.end,
            language=final.language,
            is_final=True,
            speech_final=from_finalize or (self._options.speech_final and final.utterance not in channel.cut),
            from_finalize=from_finalize,
        )
        channel.cut.discard(final.utterance)
        channel.told = final.end
        if final.words:
            channel.last_word = final.words[-1].end
        self._tell_utterance_end(channel, channel.settled)

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
        """Tell if no word has followed the last one for long enough, with `now` seconds of audio behind."""
        wait = self._options.utterance_end
        if wait is None or channel.last_word is None:
            return
        if channel.open:
            now = min(channel.open.values()) + channel.endpoint.pre_roll
        if now - channel.last_word >= wait:
            self.send(messages.UtteranceEnd(self._place(channel), channel.last_word))
            channel.last_word = None

    def _end(self, duration: float) -> None:
        for channel in self._channels:
            self._release(channel)
            self._tell_utterance_end(channel, duration)
        self.send(
            messages.Metadata(
                request_id=self._request_id,
                sha256=self._digest.hexdigest(),
                created=self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                duration=duration,
                channels=len(self._channels),
            )
        )
        self.close()

    def report(self, refusal: RefusalError) -> None:
        """See `Adapter.report`."""
        for channel in self._channels:
            self._release(channel)
        code, close_code = _CLOSES.get(refusal.code, (refusal.code, refusal.close_code))
        message = refusal.explained
        if refusal.code == "idle_timeout":
            message = f"no audio and no KeepAlive for {self.idle_timeout:g} s"
        if refusal.code != "invalid_message":  # `receive_text` has sent that one
            self._tell_error(code, message, code, message)
        self.close(close_code, f"{code}: {message}".encode()[:123].decode(errors="ignore"))

    # --- to the client

    def _place(self, channel: _Channel) -> messages.Place:
        return channel.index, max(1, len(self._channels))

    def _tell_error(self, variant: str, description: str, code: str, message: str) -> None:
        self.send(messages.ErrorMessage(variant, description, code, message))

    def _send_results(
        self,
        channel: _Channel,
        words: Sequence[Word],
        text: str,
        start: float,
        end: float,
        *,
        language: str = "",
        is_final: bool = False,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> None:
        languages = (language,) if language and self._options.tells_language else UNSET
        spoken = spoken_words(words, punctuate=self._options.punctuate)
        alternative = messages.Alternative(text, mean_confidence(words), spoken, languages)
        message = messages.Results(
            channel_index=self._place(channel),
            duration=round(end - start, 3),
            start=start,
            is_final=is_final,
            speech_final=speech_final,
            from_finalize=from_finalize,
            channel=messages.Alternatives((alternative,)),
            metadata=messages.ResultsMetadata(
                self._request_id,
                model_info(self._model),
                model_uuid(self._model),
            ),
        )
        self.send(message, replaces=None if is_final else ("interim", channel.index))
