"""Endpointing: where utterances begin and end, as a pure function of speech probabilities and levels.

    silence ──Start──▶ speech ──Pause──▶ paused ──End(silence)──▶ silence
                         ▲ │                │
                         │ └─End(cut),Start │
                         └──────Resume──────┘          (flush and finish: End from speech or paused)

A frame is *active* from a probability of `threshold` on until one falls below `release` (hysteresis).
`min_speech` of active frames in a row make a Start, and after a Pause a Resume; anything shorter is taken for
a click. Before a Pause even one active frame prolongs the speech, so that a final plosive's burst belongs to
its word.

Every sample is in one utterance or in the silence between two: Start and End alternate, their positions never
decrease, and no utterance is longer than `max_utterance`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.events import EndReason
from parastream.streaming.vad import FRAME

_CUT_MARGIN = 1.0  # seconds of audio after a cut that have been heard already, so that it is not all silence
_PAUSE_STEP = 0.1  # speech probabilities that differ by less are equally quiet


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """When utterances begin and end. Durations are in seconds.

    Raises:
        ValueError: A value is out of range; the message names the field and what is allowed.
    """

    threshold: float = 0.5
    """Speech probability from which on a frame is speech."""
    release: float = 0.35
    """Speech probability below which speech stops; at most `threshold`."""
    min_speech: float = 0.10
    """Speech in a row, to the nearest whole frame, before an utterance starts or resumes."""
    pre_roll: float = 0.30
    """Audio kept before the first speech."""
    hangover: float = 0.30
    """Audio kept after the last speech; at most `min_silence`."""
    min_silence: float = 0.60
    """Silence that ends an utterance."""
    max_utterance: float = 20.0
    """Longest utterance; a longer one is cut at its quietest place."""
    cut_search: float = 6.0
    """How far back that place may be; at most half of `max_utterance`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), _ALLOWED[field.name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"endpoint {field.name} {value!r} is out of range; allowed: {low} to {high}")


_ALLOWED: dict[str, tuple[float, float]] = {
    "threshold": (0.01, 0.99),
    "release": (0.01, 0.99),
    "min_speech": (0.0, 0.5),
    "pre_roll": (0.0, 1.0),
    "hangover": (0.0, 5.0),
    "min_silence": (0.1, 10.0),
    "max_utterance": (3.0, 60.0),  # more than pre_roll and min_speech together
    "cut_search": (0.5, 30.0),
}


@dataclass(frozen=True, slots=True)
class Start:
    """An utterance begins at `sample`: pre-roll included, but never before the end of the one before."""

    sample: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Speech has stopped; if it stays so, the utterance ends at `sample` (last speech and hangover)."""

    sample: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Speech has gone on after a Pause, which is void."""


@dataclass(frozen=True, slots=True)
class End:
    """The utterance ends before `sample`.

    With `silence` it is the sample of the latest Pause; with `cut` a Start with the same sample follows;
    `flush` is a client's wish, `finish` the end of the input.
    """

    sample: int
    reason: EndReason


EndpointEvent = Start | Pause | Resume | End


class Endpointer:
    """The state machine of one session. Samples are counted from the session's first, at 16 kHz.

    A Start lies at most `pre_roll` and `min_speech` (in whole frames) before the end of the samples pushed so
    far, and after a cut at most `cut_search`: that is how much audio a caller has to keep.
    """

    def __init__(self, config: EndpointConfig, begun: Sequence[int] = (), silent: int = 0) -> None:
        """Begin in silence.

        Args:
            config: When utterances begin and end.
            begun: Samples at which utterances are known to begin, in order, because another endpointer has heard this
                audio before. The first utterances begin exactly there.
            silent: Samples in which, for the same reason, no speech is known to begin.
        """
        self._begun = deque(begun)
        self._silent = silent
        self._threshold = config.threshold
        self._release = min(config.release, config.threshold)
        self._min_run = max(1, round(config.min_speech * SAMPLE_RATE / FRAME))
        self._pre_roll = _samples(config.pre_roll)
        self._hangover = _samples(min(config.hangover, config.min_silence))
        self._min_silence = _samples(config.min_silence)
        self._max_utterance = _samples(config.max_utterance)
        search = min(config.cut_search, config.max_utterance / 2)
        self._search = _samples(search)
        self._cut_margin = math.ceil(min(_CUT_MARGIN, search / 2) * SAMPLE_RATE / FRAME)
        self._recent: deque[tuple[float, float]] = deque(maxlen=int(search * SAMPLE_RATE / FRAME))

        self._position = 0  # samples pushed
        self._run = 0  # active frames in a row, up to now
        self._speech_end = 0  # end of the last frame that counted as speech
        self._start: int | None = None  # of the open utterance
        self._pause: int | None = None  # where the open utterance ends if nothing more is said
        self._last_end = 0  # of the utterance before

    def push(self, probability: float, level: float) -> list[EndpointEvent]:
        """Take the speech probability and the level (RMS) of the next 512 samples."""
        self._position += FRAME
        self._recent.append((probability, level))
        active = probability >= (self._release if self._run else self._threshold)
        self._run = self._run + 1 if active else 0
        if self._start is None and not self._begun:
            heard = (self._position - self._silent) // FRAME  # frames in which speech may begin
            return self._begin() if min(self._run, heard) >= self._min_run else []
        events = [] if self._start is None else self._follow()
        events += self._repeat(self._position - self._pre_roll - self._min_run * FRAME)
        if self._start is not None and self._position + FRAME - self._start > self._max_utterance:
            events += self._shorten()
        return events

    def flush(self, samples: int) -> list[EndpointEvent]:
        """End the open utterance after `samples` in all: those pushed and less than a frame more.

        Speech that goes on begins the next utterance there.
        """
        return self._close(samples, "flush")

    def finish(self, samples: int) -> list[EndpointEvent]:
        """End the input after `samples` in all: those pushed and less than a frame more."""
        return self._close(samples, "finish")

    @property
    def settled(self) -> int:
        """The sample up to which it is decided whether speech begins.

        No later Start has its first speech, which is at most `pre_roll` behind its sample, before this one.
        """
        begun = self._start is not None and self._pause is None
        settled = self._position - (0 if begun else self._run * FRAME)  # with more frames a run makes a Start
        if self._start is not None:
            settled = min(settled, self._start + self._max_utterance - self._search)  # a cut may look back so far
        return settled

    def _close(self, samples: int, reason: Literal["flush", "finish"]) -> list[EndpointEvent]:
        if not self._position <= samples < self._position + FRAME:
            raise ValueError(f"{reason} at {samples}, but the frames pushed end at {self._position}")
        run, self._run = self._run, 0
        events = self._repeat(samples)
        if self._start is not None:
            # In a pause the utterance ends where it would have ended anyway; its final pass has begun already.
            events.append(self._end(samples if self._pause is None or run else self._pause, reason))
        return events

    def _begin(self) -> list[EndpointEvent]:
        self._start = max(self._last_end, self._position - self._run * FRAME - self._pre_roll)
        self._speech_end = self._position
        return [Start(self._start)]

    def _repeat(self, samples: int) -> list[EndpointEvent]:
        """Begin the utterances that are known to begin in the first `samples`."""
        events: list[EndpointEvent] = []
        while self._begun and self._begun[0] <= samples:
            start = self._begun.popleft()
            if self._start is not None:
                events.append(self._end(start, "cut"))
            self._start, self._speech_end = start, self._position
            events.append(Start(start))
        return events

    def _follow(self) -> list[EndpointEvent]:
        """One more frame of an open utterance."""
        if self._run >= (1 if self._pause is None else self._min_run):
            self._speech_end = self._position
            if self._pause is None:
                return []
            self._pause = None
            return [Resume()]
        events: list[EndpointEvent] = []
        silence = self._position - self._speech_end
        if self._pause is None and silence >= self._hangover:
            self._pause = self._speech_end + self._hangover
            events.append(Pause(self._pause))
        if self._pause is not None and silence >= self._min_silence:
            events.append(self._end(self._pause, "silence"))
        return events

    def _shorten(self) -> list[EndpointEvent]:
        """End an utterance that has become too long: at the pause it is in, else at its quietest place."""
        if self._pause is not None:
            return [self._end(self._pause, "silence")]
        cut = self._quietest()
        end = self._end(cut, "cut")
        self._start = cut
        if self._begun:  # it would have begun a little elsewhere
            self._begun.popleft()
        return [end, Start(cut)]

    def _quietest(self) -> int:
        """Return the middle of the frame that, with its neighbours, sounds least like speech and is the softest."""
        recent = list(self._recent)

        def loudness(frame: int) -> tuple[int, float]:
            (p0, l0), (p1, l1), (p2, l2) = recent[frame - 1 : frame + 2]
            return int((p0 + p1 + p2) / 3 / _PAUSE_STEP), l0 + l1 + l2

        frame = min(range(len(recent) - self._cut_margin - 1, 0, -1), key=loudness)
        return self._position - (len(recent) - frame) * FRAME + FRAME // 2

    def _end(self, sample: int, reason: EndReason) -> End:
        self._start = self._pause = None
        self._last_end = sample
        return End(sample, reason)


def kept_seconds(config: EndpointConfig) -> int:
    """Return the whole seconds of audio that a later event may refer back to."""
    return int(config.pre_roll + config.min_speech + config.cut_search) + 2


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
