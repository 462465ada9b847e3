"""What a session tells its client: frozen values, times in seconds of the session's audio clock.

The clock starts with the first sample that the session accepted; it never follows the wall clock. Times are rounded
to the millisecond and confidences to four digits where the session makes them; nothing downstream rounds them again.
Only `Progress` is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EndReason = Literal["silence", "cut", "flush", "finish"]
"""Why an utterance ended: speech stopped; it grew too long, and speech goes on; the client asked; the input ended."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its place on the session clock."""

    text: str
    start: float
    """Seconds since the session's first sample."""
    end: float
    """Seconds since the session's first sample."""
    confidence: float
    """Between 0 and 1: the smallest probability among the word's tokens."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """A new utterance begins."""

    utterance: int
    """Counts up from 0 in each session."""
    time: float
    """Where its audio begins, pre-roll included, in seconds."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What the streaming pass hears so far; replaces the utterance's previous partial."""

    utterance: int
    start: float
    end: float
    """How far the recogniser has heard, in seconds."""
    stable: str
    """Only ever grows while the utterance lasts."""
    draft: str
    """May still change; belongs right after `stable` (spacing included)."""
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Final:
    """The text of a finished utterance; exactly one for each `SpeechStarted`."""

    utterance: int
    start: float
    end: float
    text: str
    """Punctuated when the session asked for it; may be empty when nothing was said."""
    words: tuple[Word, ...]
    confidence: float
    """Mean of the words' confidences; 0 without words."""
    ear: str = ""
    """Name of the model that heard the text."""
    language: str = ""
    """What was spoken, as an ISO 639 code; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What else is to be heard in an utterance; told right before its `Final`, to who asked for it."""

    utterance: int
    emotion: str
    """How the speaker sounds, such as `happy`; empty if it is not known."""
    sound: str
    """Such as `speech`, `laughter` or `music`; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The utterance's audio has ended (sent right before its `Final`)."""

    utterance: int
    time: float
    """Where its audio ends, in seconds."""
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Flushed:
    """All that was said before a flush has been told."""

    time: float
    """Where the flush took effect, in seconds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the session has come: its watermarks, which never go back.

    It is the last event of a batch and speaks of the state after the events before it. A session tells it only when
    a watermark has moved, and not once `SessionEnded` is told.
    """

    time: float
    """Seconds of the audio received that have been looked at. What can be told of them without more audio has been
    told: speech that begins, partials, and finals in so far as less than one longest utterance waits for its text.

    Once all audio received has been looked at, this is exactly the number of sample frames received over their rate,
    so a caller that counts the frames it sends gets the same float.
    """
    settled: float
    """Seconds up to which it is decided whether speech begins: no utterance told later has its first speech (its
    start and the pre-roll) before this."""


@dataclass(frozen=True, slots=True)
class InputRejected:
    """Audio that could not be used; what was accepted before it is still recognised."""

    code: str
    """`invalid_audio`, `incomplete_sample`, `internal_error`, or `unsupported` for what the models cannot do."""
    message: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Nothing follows: every accepted sample has been recognised."""

    time: float
    """Length of the session's audio in seconds."""


Event = SpeechStarted | Partial | Tags | Final | SpeechEnded | Flushed | Progress | InputRejected | SessionEnded
