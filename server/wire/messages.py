"""Wire messages of `parastream.v1`, the native protocol (described message by message in docs/protocol.md).

Text frames carry one JSON object each, told apart by its `type`; binary frames carry audio. Times are in
seconds of the session's audio clock, which starts with the first sample accepted. This module imports
nothing of the rest but `room_names`, because clients use it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from parastream.server.wire.room_names import room_name

PROTOCOL = "parastream.v1"
"""WebSocket subprotocol, selected when a client offers it."""
STREAM_PATH = "/v1/stream"
ROOM_PROTOCOL = "parastream.room.v1"
"""WebSocket subprotocol of viewers, who watch a caption room."""
ROOMS_PATH = "/v1/rooms/"
"""Followed by the room's name."""
TOKEN_SUBPROTOCOL = "parastream.token."
"""Browsers cannot set headers: they offer this prefix followed by the token as a second subprotocol."""

Label = Annotated[str, Meta(max_length=100)]
"""Name of a speaker."""

ENCODED: Literal["encoded"] = "encoded"
SampleFormat = Literal["s16le", "f32le", "mulaw", "alaw", "u8", "s24le", "s32le", "f64le"]
"""Names of the ways in which samples are written."""
Format = Literal["s16le", "f32le", "mulaw", "alaw", "u8", "s24le", "s32le", "f64le", "encoded"]
"""The same, and `ENCODED`: the bytes say themselves what they are, as those of WebM or MP3 do."""

ErrorCode = Literal[
    "unauthorized",
    "forbidden_origin",
    "unknown_path",
    "wrong_method",
    "start_timeout",
    "invalid_json",
    "invalid_message",
    "unexpected_message",
    "unsupported",
    "too_large",
    "unknown_model",
    "invalid_audio",
    "incomplete_sample",
    "idle_timeout",
    "session_too_long",
    "slow_client",
    "unknown_session",
    "not_ready",
    "capacity",
    "shutting_down",
    "internal",
]

CLOSE_CODES: Mapping[str, int] = MappingProxyType(
    {
        "start_timeout": 1008,
        "invalid_json": 1007,
        "invalid_message": 1007,
        "unexpected_message": 1002,
        "unsupported": 1003,
        "too_large": 1009,
        "unknown_model": 1003,
        "invalid_audio": 1007,
        "idle_timeout": 1008,
        "session_too_long": 1008,
        "slow_client": 1008,
        "unknown_session": 1008,
        "not_ready": 1013,
        "capacity": 1013,
        "shutting_down": 1001,
        "internal": 1011,
    }
)
"""How the connection is closed after each error.

The other codes do not close a connection: `done` follows `incomplete_sample`, and the first four are answers to the
HTTP upgrade.
"""


# --- client to server --------------------------------------------------------------------------------


class EndpointOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Where utterances begin and end, in seconds but for the two speech probabilities.

    What is left out keeps the server's value.
    """

    threshold: float | UnsetType = UNSET
    """Speech begins at this probability (0 to 1)."""
    release: float | UnsetType = UNSET
    """Speech goes on down to this probability (0 to 1)."""
    min_speech: float | UnsetType = UNSET
    pre_roll: float | UnsetType = UNSET
    hangover: float | UnsetType = UNSET
    min_silence: float | UnsetType = UNSET
    max_utterance: float | UnsetType = UNSET
    cut_search: float | UnsetType = UNSET


class Hotword(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A term to listen for. One without weight and sound may be a string instead."""

    term: str
    """As it is to be written."""
    weight: float = 1.0
    """From 0.1 to 5."""
    sounds_like: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    """How it may be spoken; empty: that follows from the term."""


class Start(Struct, frozen=True, tag_field="type", tag="start", forbid_unknown_fields=True):
    """First message of a new session."""

    format: Format = "s16le"
    rate: int = 16000
    """Sample rate in Hz; what is encoded says that itself."""
    channels: int = 1
    """How many there are, interleaved. Of what is encoded, 1 mixes all; another number must be the one that it has."""
    channel: int | Literal["all", "mix"] = "mix"
    """Which of the channels is transcribed; `all`: each one, separately; `mix`: all of them together. 0 if there is
    one only."""
    labels: Annotated[tuple[Label, ...], Meta(max_length=8)] = ()
    """Names of the speakers, one for each channel that is transcribed: shown in rooms and saved transcripts."""
    model: str = ""
    """Empty: the server's."""
    hotwords: tuple[str | Hotword, ...] = ()
    """Besides those that the server listens for in all sessions."""
    partials: bool = True
    punctuation: bool = True
    itn: bool = False
    """Whether finals have numbers, dates, times and amounts as people write them: inverse text normalisation."""
    replace: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()
    """Rules such as `wrong => right`, which come before the server's own."""
    profanity: Literal["", "keep", "mask", "drop"] = ""
    """What becomes of swear words; empty: what the server does."""
    final_pass: bool = True
    """False: finals are what the streaming pass heard, without a second pass over the utterance."""
    language: str = ""
    """What is spoken, one of `languages` of `ready`; empty: the models find out."""
    tags: bool = False
    """Whether to get `tags` with the finals."""
    room: str = ""
    """The caption room that shows the session; empty for none. See `room_name`."""
    stats: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds between `stats` messages, at least 0.1; 0 for none."""
    endpoint: EndpointOptions = EndpointOptions()

    def __post_init__(self) -> None:
        """Bring fields into the form in which they are told, and the room is found.

        Raises:
            ValueError: it cannot be a room's name.
        """
        if self.channels == 1 and self.channel == "mix":
            msgspec.structs.force_setattr(self, "channel", 0)
        if self.room:
            msgspec.structs.force_setattr(self, "room", room_name(self.room))


class Flush(Struct, frozen=True, tag_field="type", tag="flush", forbid_unknown_fields=True):
    """The open utterance ends here; its final and `flushed` follow, and the session goes on."""


class SetHotwords(Struct, frozen=True, tag_field="type", tag="hotwords", forbid_unknown_fields=True):
    """From here on these hotwords count, in place of those in `start` and in earlier messages of this kind."""

    hotwords: tuple[str | Hotword, ...]


class Stop(Struct, frozen=True, tag_field="type", tag="stop", forbid_unknown_fields=True):
    """The audio has ended; finals and `done` follow."""


class Resume(Struct, frozen=True, tag_field="type", tag="resume", forbid_unknown_fields=True):
    """First message on a new connection, to go on with a session whose connection broke."""

    session: str
    received: Annotated[int, Meta(ge=0)] = 0
    """`seq` of the last event that arrived; 0 when none did."""


ClientMessage = Start | Flush | SetHotwords | Stop | Resume


# --- server to client --------------------------------------------------------------------------------


class Ear(Struct, frozen=True):
    """A model that listens."""

    name: str
    partials: bool
    """Whether it hears speech while it lasts."""
    finals: bool
    """Whether it hears whole utterances."""
    languages: tuple[str, ...]
    """ISO 639 codes."""
    about: str = ""
    """What it hears well; empty where that is not known, as the next two."""
    figures: str = ""
    """How well, as measured."""
    licence: str = ""
    """Of its weights."""
    computed: str = ""
    """What computes it, and in which type, as in `graphs in int8`; empty where that is not known."""


class Ready(Struct, frozen=True, tag_field="type", tag="ready"):
    """Answer to `start` and `resume`: audio may be sent."""

    session: str
    """Unguessable; whoever knows it can resume the session."""
    protocol: str
    model: str
    format: str
    rate: int
    channels: int
    channel: int | Literal["all", "mix"]
    acknowledged: int
    """Bytes of audio accepted so far; a resuming client goes on from there."""
    heartbeat: float
    """The server is never silent for longer than this many seconds."""
    resume_window: float
    """How long after a broken connection the session can be resumed, in seconds."""
    flushes: int = 0
    """`flush` messages accepted so far; a resuming client sends only those after them again."""
    languages: tuple[str, ...] = ()
    """Those that finals may be in, as ISO 639 codes; empty when they are not known."""
    ears: tuple[Ear, ...] = ()
    """The models that listen."""
    instance: str = ""
    """Name of the server among several: a resuming client adds `?on=` and the name to the address. Empty without."""


class Acknowledged(Struct, frozen=True, tag_field="type", tag="acknowledged"):
    """Audio up to here is safe with the server. Sent regularly; not an event (it has no `seq`)."""

    bytes: int
    """Since the session began."""


class Stats(Struct, frozen=True, tag_field="type", tag="stats"):
    """How the session keeps up. Sent when asked for; not an event (it has no `seq`)."""

    received: float
    """Seconds of audio accepted."""
    backlog: float
    """Seconds of it that the engine has not looked at."""


class Word(Struct, frozen=True):
    """One word of a partial or final."""

    text: str
    start: float
    end: float
    confidence: float
    """Between 0 and 1."""


class SpeechStarted(Struct, frozen=True, tag_field="type", tag="speech_started"):
    """An utterance begins."""

    utterance: int
    """Counts up from 0 in each session, over all its channels."""
    time: float
    channel: int = 0
    """Counted from 0."""
    seq: int = 0
    """Position in the session's events; rises, with gaps where a partial gave way to a newer one."""


class Partial(Struct, frozen=True, tag_field="type", tag="partial"):
    """The text of an utterance so far; replaces its previous partial."""

    utterance: int
    start: float
    end: float
    stable: str
    """Only ever grows."""
    draft: str
    """May still change; follows right after `stable`, spacing included."""
    words: tuple[Word, ...]
    channel: int = 0
    seq: int = 0


class Final(Struct, frozen=True, tag_field="type", tag="final"):
    """The text of a finished utterance."""

    utterance: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...]
    confidence: float
    """Mean over the words; 0 without words."""
    channel: int = 0
    ear: str = ""
    """Name of the model that heard the text."""
    language: str = ""
    """What was spoken, as an ISO 639 code; empty if it is not known."""
    seq: int = 0


class Tags(Struct, frozen=True, tag_field="type", tag="tags"):
    """What else is to be heard in an utterance; right before its final, for clients that asked for it."""

    utterance: int
    emotion: str
    """`happy`, `sad`, `angry`, `neutral`, `fearful`, `disgusted`, `surprised`, or empty."""
    sound: str
    """`speech`, `music`, `laughter`, `applause`, `crying`, `sneeze`, `breath`, `cough`, `singing`, or empty."""
    channel: int = 0
    seq: int = 0


EndReason = Literal["silence", "cut", "flush", "finish"]
"""Why an utterance ended: silence followed; it had become too long, and the next one begins right there; the client
asked for it; the audio ended."""


class SpeechEnded(Struct, frozen=True, tag_field="type", tag="speech_ended"):
    """An utterance's audio has ended; its final follows."""

    utterance: int
    time: float
    channel: int = 0
    reason: EndReason = "silence"
    seq: int = 0


class Flushed(Struct, frozen=True, tag_field="type", tag="flushed"):
    """Answer to `flush`: all text of the audio before it has been sent."""

    time: float
    """Where the flush took effect."""
    seq: int = 0


class Error(Struct, frozen=True, tag_field="type", tag="error", omit_defaults=True):
    """What went wrong and what would have been right. Errors before a session exists have no `seq`."""

    code: ErrorCode
    message: str
    allowed: tuple[str, ...] = ()
    """The possible values or names, where they can be listed."""
    seq: int = 0


class Done(Struct, frozen=True, tag_field="type", tag="done"):
    """Nothing follows: all audio has been transcribed."""

    duration: float
    """Seconds of audio in the session."""
    seq: int = 0


Event = SpeechStarted | Partial | SpeechEnded | Tags | Final | Flushed | Error | Done
"""Messages with a `seq`: they belong to the session, and a client that resumes gets those that it missed."""
ServerMessage = Ready | Acknowledged | Stats | Event


# --- server to the viewers of a room -----------------------------------------------------------------


class RoomLine(Struct, frozen=True):
    """A line whose text is final. Times are in seconds since the room's first speaker came."""

    line: int
    """Unique in the room; rises by the time at which lines begin."""
    speaker: str
    """A label; may be empty."""
    start: float
    end: float
    text: str


class RoomState(Struct, frozen=True, tag_field="type", tag="room"):
    """First message: the room as it is."""

    room: str
    live: bool
    """Whether somebody speaks in it."""
    lines: tuple[RoomLine, ...]
    """The latest."""
    id: str
    """Differs between rooms of the same name, one of which was forgotten, or lost with its server."""
    earlier: int
    """How many lines there are before these; `RoomHistory` has them."""


class RoomHistory(Struct, frozen=True):
    """Lines of a room from before those that a viewer knows: the answer to an HTTP request."""

    room: str
    id: str
    """See `RoomState`."""
    lines: tuple[RoomLine, ...]
    earlier: int
    """How many lines there are before these."""


class RoomPartial(Struct, frozen=True, tag_field="type", tag="partial"):
    """The text of a line so far; replaces its previous partial."""

    line: int
    speaker: str
    start: float
    end: float
    stable: str
    draft: str


class RoomFinal(RoomLine, frozen=True, tag_field="type", tag="final"):
    """The text of a line is final; a line with an empty text vanishes."""


class RoomLive(Struct, frozen=True, tag_field="type", tag="live"):
    """Whether somebody speaks; sent when that changes, and every few seconds."""

    live: bool


RoomMessage = RoomState | RoomPartial | RoomFinal | RoomLive


def encode(message: ClientMessage | ServerMessage | RoomMessage) -> bytes:
    """Return the JSON text of a message in UTF-8."""
    return msgspec.json.encode(message)


def type_of(message: ClientMessage) -> str:
    """Return what a message is called on the wire."""
    return str(message.__struct_config__.tag)


def numbered(event: Event, seq: int) -> Event:
    """Return an event with its place among the session's events."""
    return msgspec.structs.replace(event, seq=seq)


_server_decoder = msgspec.json.Decoder(ServerMessage)


def decode_server_message(data: str | bytes) -> ServerMessage:
    """Read a message of the server; fields that a newer server adds are ignored.

    Raises:
        msgspec.DecodeError: it is not a message of this protocol.
    """
    message: ServerMessage = _server_decoder.decode(data)
    return message
