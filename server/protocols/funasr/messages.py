"""The messages of FunASR's WebSocket protocol."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType
from parastream.server.wire.messages import ErrorCode

Mode = Literal["2pass", "online", "offline"]
AnswerMode = Literal["2pass", "online", "offline", "2pass-online", "2pass-offline"]
Name = str | int | float
"""What a client calls its audio."""
Span = tuple[int, int]
"""Beginning and end in milliseconds."""


class ClientMessage(Struct, frozen=True):
    """What a client may set and say, all in one object; it is read leniently, as clients differ.

    Every field may be of any type, null counts as left out, and so does an empty string in the first four and in `itn`.
    The adapter takes rates in quotes, 0 and 1 for false and true, and modes and formats in capitals. It ignores unknown
    fields.
    """

    mode: Any = None
    audio_fs: Any = None
    """Sample rate in Hz."""
    wav_format: Any = None
    wav_name: Any = None
    is_speaking: Any = None
    is_finished: Any = None
    is_end: Any = None
    svs_lang: Any = None
    """The language, as clients of SenseVoice name it."""
    itn: Any = None
    """Whether numbers are written as people write them."""
    hotwords: Any = None
    chunk_size: Any = None
    chunk_interval: Any = None


class Slice(IntEnum):
    """Where in its utterance an answer belongs, as the C++ server counts."""

    FIRST = 0
    """The first words."""
    MORE = 1
    WHOLE = 2
    """All of it, which has ended."""


class Sentence(Struct, frozen=True):
    """A part of a text up to its punctuation, with a span for each word or Chinese character."""

    text_seg: str
    """Words and characters, with spaces between them."""
    punc: str
    start: int
    """Milliseconds, as `end`."""
    end: int
    ts_list: tuple[Span, ...]


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text, or the acknowledgement of the end of a recording."""

    mode: AnswerMode
    text: str
    wav_name: Name
    is_final: bool
    """Whether it is the last answer to a recording."""
    timestamp: str | UnsetType = UNSET
    """The spans of the text as JSON within the JSON."""
    stamp_sents: tuple[Sentence, ...] | UnsetType = UNSET
    is_end: bool = False
    """Whether it is the acknowledgement that the client asked for."""
    slice_type: Slice | UnsetType = UNSET
    """With the modes of the C++ server, as are the next three."""
    index: int | UnsetType = UNSET
    """Number of the utterance in the connection, from 0."""
    start_time: int | UnsetType = UNSET
    """When the utterance began, in milliseconds, once it has ended; as `end_time`."""
    end_time: int | UnsetType = UNSET


class Failure(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """What was refused, and what is allowed."""

    error: str
    code: ErrorCode
    allowed: tuple[str, ...] = ()


ServerMessage = Answer | Failure
