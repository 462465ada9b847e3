"""The messages of Deepgram's live transcription, as its API reference describes them."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from parastream.server.wire import messages

ConfigureFailureCode = Literal["CONFIGURE_KEYTERM_LIMIT_EXCEEDED", "CONFIGURE_INTERNAL_ERROR"]
Place = tuple[int, int]
"""A channel, counted from 0, and how many there are."""


# --- client to server --------------------------------------------------------------------------------


class KeepAlive(Struct, frozen=True, tag_field="type", tag="KeepAlive"):
    """The client is still there."""


class Finalize(Struct, frozen=True, tag_field="type", tag="Finalize"):
    """Every open utterance ends here."""

    channel: int | None = None
    """Ignored: all channels are finalized."""


class CloseStream(Struct, frozen=True, tag_field="type", tag="CloseStream"):
    """The audio has ended."""


class Configure(Struct, frozen=True, tag_field="type", tag="Configure"):
    """Change the session."""

    keyterms: tuple[str, ...] | None = None
    """In place of all key terms before; None: these stay."""
    features: dict[str, bool] | None = None
    """Parameters of the query, such as `numerals`."""


ClientMessage = KeepAlive | Finalize | CloseStream | Configure


# --- server to client --------------------------------------------------------------------------------


class SpokenWord(Struct, frozen=True):
    """A word of a result, in small letters and without marks."""

    word: str
    start: float
    end: float
    confidence: float
    punctuated_word: str | UnsetType = UNSET
    """The word as it stands in the transcript; only with `punctuate` or `smart_format`."""


class Alternative(Struct, frozen=True):
    """The one reading of an utterance that there is."""

    transcript: str
    confidence: float
    """Mean over the words; 0 without words."""
    words: tuple[SpokenWord, ...]
    languages: tuple[str, ...] | UnsetType = UNSET
    """What was spoken in a final result; with `language=multi` or `detect_language`, and where it is known."""


class Alternatives(Struct, frozen=True):
    """What a channel said."""

    alternatives: tuple[Alternative]


class ModelInfo(Struct, frozen=True):
    """The model that is served."""

    name: str
    version: str
    arch: str = "paraformer"


class ResultsMetadata(Struct, frozen=True):
    """The request that a result belongs to."""

    request_id: str
    model_info: ModelInfo
    model_uuid: str


class Results(Struct, frozen=True, tag_field="type", tag="Results"):
    """The text of an utterance, so far or finally. Times are in seconds."""

    channel_index: Place
    duration: float
    start: float
    is_final: bool
    speech_final: bool
    from_finalize: bool
    channel: Alternatives
    metadata: ResultsMetadata


class SpeechStarted(Struct, frozen=True, tag_field="type", tag="SpeechStarted"):
    """An utterance begins."""

    channel: Place
    timestamp: float


class UtteranceEnd(Struct, frozen=True, tag_field="type", tag="UtteranceEnd"):
    """No word has followed the last one for `utterance_end_ms`."""

    channel: Place
    last_word_end: float


class ConfigureSuccess(Struct, frozen=True, tag_field="type", tag="ConfigureSuccess"):
    """Answer to `Configure`: it is in effect from here on."""

    request_id: str
    keyterms: tuple[str, ...] | UnsetType = UNSET
    """Those that are listened for now, if they were changed."""


class ConfigureFailure(Struct, frozen=True, tag_field="type", tag="ConfigureFailure"):
    """Answer to `Configure`: nothing of it is in effect."""

    request_id: str
    code: ConfigureFailureCode
    description: str


class ErrorMessage(Struct, frozen=True, tag_field="type", tag="Error"):
    """What went wrong before the connection is closed."""

    variant: str
    description: str
    code: str
    message: str


class Metadata(Struct, frozen=True, tag_field="type", tag="Metadata", kw_only=True):
    """The last message."""

    transaction_key: Literal["deprecated"] = "deprecated"
    request_id: str
    sha256: str
    """Of all bytes that came as audio, in hexadecimal."""
    created: str
    """When the connection was opened, in UTC."""
    duration: float
    """Seconds of audio."""
    channels: int


ServerMessage = Results | SpeechStarted | UtteranceEnd | ConfigureSuccess | ConfigureFailure | ErrorMessage | Metadata


class BadRequest(messages.Error, frozen=True, tag="error", omit_defaults=True):
    """Body of the HTTP answer to a request that is refused: our fields, and Deepgram's."""

    err_code: str = ""
    err_msg: str = ""
    request_id: str = ""
