"""The messages of Deepgram Flux, as Deepgram's clients describe them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct
from parastream.server.protocols.deepgram.turns import Trigger, TurnEvent

# --- client to server --------------------------------------------------------------------------------


class WantedThresholds(Struct, frozen=True):
    """When turns are over; what is left out stays as it is."""

    eager_eot_threshold: Annotated[float, Meta(ge=0.3, le=0.9)] | None = None
    eot_threshold: Annotated[float, Meta(ge=0.5, le=1)] | None = None
    eot_timeout_ms: Annotated[int, Meta(ge=500, le=60_000)] | None = None


class Configure(Struct, frozen=True, tag_field="type", tag="Configure"):
    """Change the session."""

    thresholds: WantedThresholds = WantedThresholds()
    keyterms: tuple[str, ...] | None = None
    """Ignored, as `language_hints` and `numerals`."""
    language_hints: tuple[str, ...] | None = None
    numerals: bool | None = None


class ForceEndTurn(Struct, frozen=True, tag_field="type", tag="ForceEndTurn"):
    """The turn ends here."""


class CloseStream(Struct, frozen=True, tag_field="type", tag="CloseStream"):
    """The audio has ended."""


ClientMessage = Configure | ForceEndTurn | CloseStream


# --- server to client --------------------------------------------------------------------------------


class Connected(Struct, frozen=True, tag_field="type", tag="Connected"):
    """The first message."""

    request_id: str
    sequence_id: int
    """Counts the messages of the server."""


class TurnWord(Struct, frozen=True):
    """A word as it stands in the transcript. Times are in seconds."""

    word: str
    confidence: float
    start: float
    end: float


class TurnInfo(Struct, frozen=True, tag_field="type", tag="TurnInfo", kw_only=True, omit_defaults=True):
    """What has become of a turn."""

    request_id: str
    sequence_id: int
    event: TurnEvent
    turn_index: int
    audio_window_start: float
    audio_window_end: float
    transcript: str
    """All of the turn's text so far."""
    words: tuple[TurnWord, ...]
    end_of_turn_confidence: float
    trigger: Trigger | None = None
    """What has ended the turn; only with `EndOfTurn`."""


class Thresholds(Struct, frozen=True, omit_defaults=True):
    """When turns are over."""

    eager_eot_threshold: float | None
    eot_threshold: float
    eot_timeout_ms: int


class ConfigureSuccess(Struct, frozen=True, tag_field="type", tag="ConfigureSuccess"):
    """Answer to `Configure`, with all that is in effect."""

    request_id: str
    thresholds: Thresholds
    keyterms: tuple[str, ...]
    language_hints: tuple[str, ...] | None
    sequence_id: int


class ConfigureFailure(Struct, frozen=True, tag_field="type", tag="ConfigureFailure"):
    """Answer to a `Configure` that changes nothing."""

    request_id: str
    sequence_id: int
    code: Literal["CONFIGURE_THRESHOLDS"]
    description: str


class ErrorMessage(Struct, frozen=True, tag_field="type", tag="Error"):
    """What went wrong before the connection is closed."""

    sequence_id: int
    code: str
    description: str


ServerMessage = Connected | TurnInfo | ConfigureSuccess | ConfigureFailure | ErrorMessage
