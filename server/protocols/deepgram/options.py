"""What the query of a Deepgram client asks for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from parastream.media.live import is_encoded
from parastream.model.errors import AudioError
from parastream.server.protocols.base import Request
from parastream.server.protocols.deepgram.messages import BadRequest
from parastream.server.protocols.terms import of_deepgram
from parastream.server.protocols.wav import WavInput
from parastream.server.wire.messages import ENCODED, EndpointOptions, Error, Hotword, Start
from parastream.server.wire.refusals import RefusalError, quoted, shortened
from parastream.streaming import AudioFormat, Encoding
from parastream.streaming.audio import SAMPLE_RATE

ENCODINGS: dict[str, Literal["s16le", "f32le", "mulaw", "alaw"]] = {
    "linear16": "s16le",
    "linear32": "f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
}
CONTAINED = ("opus", "ogg-opus", "flac", "mp3", "aac")
"""Encodings whose audio says itself what it is: Opus in Ogg or WebM."""
LEAST_SILENCE = 300
"""Milliseconds of `endpointing`. Deepgram's clients ask for as little as 10 or 25: there a sentence may go on after
that, but here each end of an utterance ends one, and people pause for longer between words."""
MOST_SILENCE = 10_000


def bad_request(refusal: RefusalError) -> BadRequest:
    """Return the error in the form in which Deepgram's clients expect it."""
    return BadRequest(
        refusal.code,
        refusal.message,
        refusal.allowed,
        err_code="Bad Request",
        err_msg=f"Bad Request: {refusal.explained}",
        request_id=str(uuid.uuid4()),
    )


class BadRequestError(RefusalError):
    """A query that is refused, in the form in which Deepgram's clients expect it."""

    @property
    def error(self) -> Error:
        """See `RefusalError`."""
        return bad_request(self)


@dataclass(frozen=True)
class Options:
    """A query that has been checked."""

    format: AudioFormat | None
    """None: the audio says it itself."""
    channels: int
    """How many there are in encoded audio of which each channel is transcribed."""
    multichannel: bool
    interim_results: bool
    punctuate: bool
    itn: bool
    """Whether numbers are written as people write them."""
    mask_profanity: bool
    """Whether swear words are shown as `f***`."""
    vad_events: bool
    speech_final: bool
    """Whether the end of an utterance is marked."""
    min_silence: float | None
    """Seconds of silence that end an utterance; None: the server's."""
    utterance_end: float | None
    """Seconds without a word before `UtteranceEnd`."""
    language: str
    """What is spoken; empty: the models find out."""
    tells_language: bool
    """Whether results say what was found."""
    keyterms: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def hotwords(self) -> Iterator[Hotword]:
        """The key terms and keywords, as they are given."""
        return of_deepgram(self.keyterms, self.keywords)

    @property
    def features(self) -> Mapping[str, bool]:
        """What is on of the features that a client may name again while audio comes in."""
        return {
            "numerals": self.itn,
            "punctuate": self.punctuate,
            "smart_format": self.itn and self.punctuate,
            "profanity_filter": self.mask_profanity,
        }

    def start(self, audio: AudioFormat | None, hotwords: tuple[Hotword, ...]) -> Start:
        """Return what the transcription is asked for.

        Args:
            audio: How samples are written; None: the audio says itself what it is.
            hotwords: Those that can be listened for.
        """
        endpoint = EndpointOptions() if self.min_silence is None else EndpointOptions(min_silence=self.min_silence)
        return Start(
            format=ENCODED if audio is None else audio.encoding.value,
            rate=SAMPLE_RATE if audio is None else audio.rate,
            channels=self.channels if audio is None else audio.channels,
            channel="all" if self.multichannel else "mix",
            partials=self.interim_results,
            punctuation=self.punctuate,
            itn=self.itn,
            profanity="mask" if self.mask_profanity else "",
            hotwords=hotwords,
            endpoint=endpoint,
        )


def read_options(request: Request) -> Options:
    """Read the query.

    Raises:
        RefusalError: a parameter has a value that the server does not support.
    """
    for name in ("callback", "redact"):
        if request.get(name, "false") != "false":
            raise BadRequestError("unsupported", f"{name} is not supported; leave it out")
    interim_results = flag(request, "interim_results")
    endpointing = request.get("endpointing", "true").lower()
    silence = None
    if endpointing not in ("true", "false"):
        given = number(request, "endpointing", 0, "milliseconds, true or false")
        silence = min(max(given, LEAST_SILENCE), MOST_SILENCE) / 1000
    utterance_end = None
    if "utterance_end_ms" in request.query:
        utterance_end = number(request, "utterance_end_ms", 1000, "milliseconds from 1000 on") / 1000
        if not interim_results:
            raise BadRequestError("unsupported", "utterance_end_ms needs interim_results=true")
        silence = silence and min(silence, utterance_end)
    language = request.get("language")
    several = language.lower() == "multi"
    return Options(
        format=audio_format(request),
        channels=number(request, "channels", 1, "whole numbers") if "channels" in request.query else 1,
        multichannel=flag(request, "multichannel"),
        interim_results=interim_results,
        punctuate=flag(request, "punctuate") or flag(request, "smart_format"),
        itn=flag(request, "numerals") or flag(request, "smart_format"),
        mask_profanity=flag(request, "profanity_filter"),
        vad_events=flag(request, "vad_events"),
        speech_final=endpointing != "false",
        min_silence=silence,
        utterance_end=utterance_end,
        language="" if several else language,
        tells_language=several or flag(request, "detect_language"),
        keyterms=tuple(request.query.get("keyterm", ())),
        keywords=tuple(request.query.get("keywords", ())),
    )


def audio_format(request: Request) -> AudioFormat | None:
    """Return how samples are written; None if the audio says that itself. Raises `RefusalError`."""
    encoding = request.get("encoding")
    if not encoding or encoding in CONTAINED:
        return None
    if encoding not in ENCODINGS:
        raise BadRequestError(
            "unsupported",
            f"encoding {quoted(encoding)} is not supported (leave it out for audio that says itself what it is)",
            (*ENCODINGS, *CONTAINED),
        )
    if "sample_rate" not in request.query and encoding.startswith("linear"):
        raise BadRequestError("unsupported", f"encoding={encoding} needs a sample_rate as well")
    rate = number(request, "sample_rate", 1, "Hz") if "sample_rate" in request.query else 8000
    channels = number(request, "channels", 1, "whole numbers") if "channels" in request.query else 1
    try:
        return AudioFormat(Encoding(ENCODINGS[encoding]), rate, channels)
    except AudioError as error:
        raise BadRequestError("unsupported", str(error)) from error


def is_known(wav: WavInput, data: bytes) -> bool:
    """Return whether enough audio has come for `found_format`: the first message of a recorder may be a single byte.

    Args:
        wav: what has looked for a WAV header.
        data: the audio so far.
    """
    return wav.header is not None or (wav.known and is_encoded(data) is not None)


def found_format(wav: WavInput, data: bytes) -> AudioFormat | None:
    """Return how samples are written, as the beginning of audio shows it; None if the audio is encoded.

    Args:
        wav: what has looked for a WAV header.
        data: the audio so far.

    Raises:
        RefusalError: nothing is found out, or what was cannot be used.
    """
    if wav.header is None:
        if is_encoded(data):
            return None
        message = (
            "the audio has no WAV header, and is no WebM, Ogg, MP3, FLAC, AAC or MP4; raw samples need an encoding"
        )
        raise RefusalError("invalid_audio", message, tuple(ENCODINGS))
    try:
        return AudioFormat(Encoding(wav.header.format), wav.header.rate, wav.header.channels)
    except AudioError as error:
        raise RefusalError("unsupported", f"a WAV header says: {error}") from error


def flag(request: Request, name: str) -> bool:
    """Return a parameter that is true or false. Raises `RefusalError`."""
    value = request.get(name, "false").lower()
    if value not in ("true", "false"):
        raise BadRequestError(
            "unsupported", f"{name}={shortened(request.get(name))} is not supported", ("true", "false")
        )
    return value == "true"


def number(request: Request, name: str, low: int, allowed: str, high: int = 10**9) -> int:
    """Return a parameter that is a whole number, at least `low` and at most `high`. Raises `RefusalError`."""
    text = request.get(name)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
        raise BadRequestError("unsupported", f"{name}={shortened(text)} is not supported; allowed: {allowed}")
    return int(text)
