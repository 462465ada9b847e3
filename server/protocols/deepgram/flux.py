"""Deepgram Flux at `/v2/listen`: turns of a conversation. Everything is asked for in the query, then audio comes in.

| Parameter | What happens |
|---|---|
| `encoding`, `sample_rate` | as at `/v1/listen`; several channels are mixed |
| `eot_threshold` (0.5 to 1, 0.7 if left out), `eot_timeout_ms` (500 to 60000; 5000) | when a turn is over: `turns.py` says which silence each confidence is; 0.7 is 0.6 s |
| `eager_eot_threshold` (0.3 to 0.9) | `EagerEndOfTurn` and `TurnResumed` are sent, too; without it, they never are |
| `numerals` | numbers as digits |
| `profanity_filter` | swear words are shown as `f***` |
| `redact` | refused: a client that asks for it relies on it |
| `language_hint` | what is spoken, where it is named once and the models know it |
| `keyterm` | hotwords, which `Configure` may change |
| `model` and all others | ignored |

| Message of the client | What happens |
|---|---|
| `Configure` | `ConfigureSuccess`; `ConfigureFailure` for thresholds that would need a shorter silence than the session began with |
| `ForceEndTurn` | the turn, if there is one, ends here |
| `CloseStream`, or an empty binary message | the rest, and close |
| others | `Error`, after the turns of all audio so far, close 1008 |

`StartOfTurn` comes with the first words, `Update` whenever the text has changed, `EndOfTurn` with the final text: it is that of
the last `EagerEndOfTurn`, or `TurnResumed` lies between. `sequence_id` has gaps where an `Update` gave way to a newer one.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from parastream.server.protocols.base import Admits, Request
from parastream.server.protocols.deepgram import flux_messages as messages
from parastream.server.protocols.deepgram.flux_messages import ClientMessage, CloseStream, Configure, ForceEndTurn
from parastream.server.protocols.deepgram.live import Live
from parastream.server.protocols.deepgram.options import BadRequestError, audio_format, flag, number
from parastream.server.protocols.deepgram.turns import Thresholds, Trigger, Turn, TurnEvent, Turns
from parastream.server.protocols.terms import plain
from parastream.server.sessions.transcription import Progress, Transcription
from parastream.server.wire.explain import Reader
from parastream.server.wire.messages import (
    ENCODED,
    Done,
    EndpointOptions,
    Event,
    Final,
    Flushed,
    Partial,
    SpeechEnded,
    SpeechStarted,
    Start,
)
from parastream.server.wire.refusals import RefusalError, shortened
from parastream.streaming import AudioFormat
from parastream.streaming.audio import SAMPLE_RATE

_CLOSES = {"internal": 1011} | dict.fromkeys(
    ("invalid_audio", "unsupported", "too_large", "invalid_json", "invalid_message"), 1008
)
"""How Deepgram closes after errors, where that differs from the native protocol."""
_EAGER, _END, _TIMEOUT = (0.3, 0.9), (0.5, 1.0), (500, 60_000)

_reader = Reader[ClientMessage](ClientMessage)


@dataclass(frozen=True)
class _Options:
    """A query that has been checked."""

    format: AudioFormat | None
    """None: a WAV header says it."""
    thresholds: Thresholds
    numerals: bool
    mask_profanity: bool


def _read_options(request: Request) -> _Options:
    """Read the query.

    Raises:
        RefusalError: a parameter has a value that the server does not support.
    """
    if request.get("redact", "false") != "false":
        raise BadRequestError("unsupported", "redact is not supported; leave it out")
    timeout = 5.0
    if "eot_timeout_ms" in request.query:
        low, high = _TIMEOUT
        timeout = number(request, "eot_timeout_ms", low, f"milliseconds from {low} to {high}", high) / 1000
    end, eager = _share(request, "eot_threshold", _END), _share(request, "eager_eot_threshold", _EAGER)
    thresholds = Thresholds(0.7 if end is None else end, eager, timeout)
    return _Options(audio_format(request), thresholds, flag(request, "numerals"), flag(request, "profanity_filter"))


def _share(request: Request, name: str, allowed: tuple[float, float]) -> float | None:
    if name not in request.query:
        return None
    text = request.get(name)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not allowed[0] <= value <= allowed[1]:
        message = f"{name}={shortened(text)} is not supported; allowed: {allowed[0]} to {allowed[1]}"
        raise BadRequestError("unsupported", message)
    return value


class Flux(Live):
    """One connection of a Flux client."""

    patience: ClassVar[float] = 10.0

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._options = _read_options(request)
        self._turns: Turns | None = None
        self._sequence = 0
        self._keyterms: tuple[str, ...] = request.query.get("keyterm", ())
        self._hints: tuple[str, ...] | None = request.query.get("language_hint")

    @classmethod
    def check(cls, request: Request) -> None:
        """Read the query. See `Adapter.check`."""
        _read_options(request)

    @property
    def _format(self) -> AudioFormat | None:
        return self._options.format

    def open(self) -> None:
        """Greet, and begin if the query says what the audio is."""
        _ = self.admission.model  # or it is too early
        self.send(messages.Connected(self._request_id, self._next()))
        if self._options.format is not None:
            self._begin(self._options.format)

    def _begin(self, audio: AudioFormat | None) -> Transcription:
        thresholds = self._options.thresholds
        start = Start(
            format=ENCODED if audio is None else audio.encoding.value,
            rate=SAMPLE_RATE if audio is None else audio.rate,
            channels=1 if audio is None else audio.channels,
            channel="mix",
            itn=self._options.numerals,
            profanity="mask" if self._options.mask_profanity else "",
            hotwords=self.usable(plain(self._keyterms)),
            endpoint=EndpointOptions(min_silence=thresholds.eager_silence),
        )
        language = self._hints[0] if self._hints is not None and len(self._hints) == 1 else ""
        transcription = self._transcription = self.begin(start, language=language)
        self._turns = Turns(thresholds, transcription.configs[0].endpoint, self._tell)
        return transcription

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    # --- from the client

    def receive_text(self, text: str) -> None:
        """See `Adapter.receive_text`."""
        match _reader.read(text):
            case ForceEndTurn():
                if self._transcription is not None:
                    self._transcription.flush()
            case CloseStream():
                self._close_stream()
            case Configure() as wanted:
                self._configure(wanted)

    def _configure(self, wanted: Configure) -> None:
        """Change what can be changed while audio comes in."""
        before, given = self._thresholds, wanted.thresholds
        timeout = before.timeout if given.eot_timeout_ms is None else given.eot_timeout_ms / 1000
        thresholds = Thresholds(
            before.end if given.eot_threshold is None else given.eot_threshold,
            before.eager if given.eager_eot_threshold is None else given.eager_eot_threshold,
            timeout,
        )
        least = self._options.thresholds.eager_silence
        if self._turns is not None and thresholds.eager_silence < least:
            refusal = RefusalError(
                "unsupported", f"pauses shorter than {least:.2f} s were not asked for when the session began"
            )
            self.complain(refusal)
            self.send(
                messages.ConfigureFailure(self._request_id, self._next(), "CONFIGURE_THRESHOLDS", refusal.message)
            )
            return
        if wanted.keyterms is not None:
            self._keyterms = wanted.keyterms
            if self._transcription is not None:
                self.expect(self._transcription, plain(self._keyterms))
        self._hints = self._hints if wanted.language_hints is None else wanted.language_hints
        if self._turns is not None:
            self._turns.thresholds = thresholds
        else:
            self._options = replace(self._options, thresholds=thresholds)
        shown = messages.Thresholds(thresholds.eager, thresholds.end, round(thresholds.timeout * 1000))
        success = messages.ConfigureSuccess(self._request_id, shown, self._keyterms, self._hints, self._next())
        self.send(success)

    @property
    def _thresholds(self) -> Thresholds:
        return self._options.thresholds if self._turns is None else self._turns.thresholds

    def _end_unheard(self) -> None:
        self.close()

    # --- from the transcription

    def advance(self, transcription: Transcription, progress: Progress) -> None:
        """See `Adapter.advance`."""
        assert self._turns is not None
        self._turns.advance(transcription.progress)

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        turns = self._turns
        assert turns is not None
        match event:
            case SpeechStarted():
                turns.start_utterance(event.utterance, event.time)
            case SpeechEnded():
                turns.end_utterance(event.utterance, event.reason)
            case Partial() | Final():
                turns.hear(event)
            case Flushed():
                turns.force()
            case Done():
                turns.force()
                self.close()

    def report(self, refusal: RefusalError) -> None:
        """See `Adapter.report`."""
        if self._turns is not None and not self.aborted:
            self._turns.force()
        self.send(messages.ErrorMessage(self._next(), refusal.code.upper(), refusal.explained))
        self.close(_CLOSES.get(refusal.code, refusal.close_code), refusal.close_reason)

    # --- to the client

    def _tell(self, event: TurnEvent, turn: Turn, confidence: float, trigger: Trigger | None) -> None:
        assert self._transcription is not None
        words = tuple(messages.TurnWord(word.text, word.confidence, word.start, word.end) for word in turn.words)
        info = messages.TurnInfo(
            request_id=self._request_id,
            sequence_id=self._next(),
            event=event,
            turn_index=turn.index,
            audio_window_start=turn.start,
            audio_window_end=round(max(turn.start, self._transcription.progress), 3),
            transcript=turn.transcript,
            words=words,
            end_of_turn_confidence=confidence,
            trigger=trigger,
        )
        self.send(info, replaces=("update", turn.index) if event == "Update" else None)
