"""A session that outlives its engine: what another engine has to hear again, and how its events go on.

Audio is kept since the last final. The new engine hears it from the first utterance whose final has not been told, or
from the silence that nothing more can begin in, and a moment before that, so that voice activity detection is
warm. Frames of voice activity and utterances begin at the same samples as before, so windows and partials are the same
ones, too. What had been told is not told again.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from parastream.streaming.audio import SAMPLE_RATE, AudioFormat
from parastream.streaming.endpoint import EndpointConfig
from parastream.streaming.events import (
    Event,
    Final,
    Flushed,
    InputRejected,
    Partial,
    Progress,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
    Tags,
    Word,
)
from parastream.streaming.rendering import ends_sentence
from parastream.streaming.silero import FRAME

_WARM_UP = 1.0
"""Seconds of audio that voice activity detection hears before what matters."""
_MOST_FRAMES = 8
"""Frames of voice activity after which they need to lie at whole samples of the input again; else they may shift."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What has been told of a session whose audio is heard again. Times count from the first sample heard again."""

    seconds: float = 0.0
    """Length of the audio that is heard again."""
    begun: tuple[float, ...] = ()
    """Where utterances begin whose beginning has been told, but not their final, in seconds."""
    silent: float = 0.0
    """Seconds in which no speech begins."""
    goes_on: bool = False
    """Whether the utterance before was cut off in the middle of a sentence."""


@dataclass(slots=True)
class _Open:
    """An utterance of which the beginning has been told, but not the final."""

    number: int
    start: float
    heard: float = -math.inf
    """Up to where partials have been told."""
    stable: str = ""
    again: bool = False
    """Whether its partials up to there are told once more, by another engine."""


class Continuity:
    """One session, whichever engine works on it. It keeps what is sent, and everything told goes through `receive`."""

    def __init__(self, audio_format: AudioFormat, endpoint: EndpointConfig) -> None:
        self.ended = False
        """Whether `SessionEnded` has been told."""
        self.settled = 0
        """Grows with every final, and with all audio that has been looked at for the first time."""
        self._format = audio_format
        self._pre_roll = endpoint.pre_roll
        self._unit = _aligned(self._format.rate)
        self._kept: deque[bytes] = deque()
        self._kept_from = 0  # byte of the input
        self._received = 0  # bytes
        self._flushes: deque[int] = deque()  # bytes after which they came, of those that have not been told of
        self._needed = 0  # frame from which another engine would have to hear the audio
        self._base = 0  # first frame that the present engine has heard
        self._first = 0  # number of its first utterance
        self._open: deque[_Open] = deque()
        self._count = 0  # utterances that have been told
        self._end = 0.0  # of the last final
        self._goes_on = False
        self._progress = Progress(0.0, 0.0)
        self._cut = False

    def send(self, data: bytes) -> None:
        """Keep audio."""
        self._kept.append(data)
        self._received += len(data)

    def flush(self) -> None:
        """Keep the wish to end the open utterance here."""
        self._flushes.append(self._received)

    def replay(self) -> tuple[Replay, list[bytes | None]]:
        """Begin anew; whatever `receive` gets from now on is told by another engine.

        Returns:
            What that engine has to know, and the audio that it has to hear; None stands for a flush.
        """
        self._base = self._needed
        self._first = self._open[0].number if self._open else self._count
        for each in self._open:
            each.again = True
        start = self._base * self._format.frame_bytes
        pieces: list[bytes | None] = []
        at, flushes = self._kept_from, deque(self._flushes)
        for piece in self._kept:
            begin, end = max(at, start), at + len(piece)
            while flushes and flushes[0] <= end:
                flush = max(flushes.popleft(), begin)
                pieces += [piece[begin - at : flush - at], None]
                begin = flush
            if begin < end:
                pieces.append(piece[begin - at :])
            at = end
        pieces += [None] * len(flushes)
        seconds = (self._received - start) / self._format.frame_bytes / self._format.rate
        begun = tuple(max(0.0, each.start - self._seconds) for each in self._open)
        silent = 0.0 if begun else max(0.0, self._progress.settled - self._seconds)
        return Replay(seconds, begun, silent, self._goes_on), [piece for piece in pieces if piece is None or piece]

    @property
    def _seconds(self) -> float:
        return self._base / self._format.rate

    def fail(self, code: str, message: str) -> list[Event]:
        """End at once, because of what went wrong, and return what there is to tell."""
        self.ended = True
        seconds = self._received // self._format.frame_bytes / self._format.rate
        return [InputRejected(code, message), SessionEnded(round(seconds, 3))]

    def receive(self, events: Iterable[Event]) -> list[Event]:
        """Return what of these events is new, in terms of the whole session."""
        told = [event for event in map(self._translated, events) if event is not None]
        self._forget()
        return told

    def _translated(self, event: Event) -> Event | None:
        match event:
            case Progress():
                return self._advance(event)
            case Flushed():
                self._flushes.popleft()
                return Flushed(self._time(event.time))
            case SessionEnded():
                self.ended = True
                return SessionEnded(self._time(event.time))
            case Tags():
                return dataclasses.replace(event, utterance=event.utterance + self._first)
            case SpeechStarted() | Partial() | SpeechEnded() | Final():
                return self._utter(event, event.utterance + self._first)
        return event

    def _utter(self, event: SpeechStarted | Partial | SpeechEnded | Final, number: int) -> Event | None:
        match event:
            case SpeechStarted():
                if number < self._count:
                    return None
                self._count += 1
                self._open.append(_Open(number, self._time(event.time)))
                return SpeechStarted(number, self._open[-1].start)
            case Partial():
                utterance, end = self._open[number - self._open[0].number], self._time(event.end)
                again = utterance.again and end <= utterance.heard
                if again or not event.stable.startswith(utterance.stable):
                    return None
                utterance.again = False
                utterance.heard, utterance.stable = end, event.stable
                return dataclasses.replace(
                    event, utterance=number, start=utterance.start, end=end, words=self._words(event.words)
                )
            case SpeechEnded():
                self._cut = event.reason == "cut"
                return SpeechEnded(number, self._time(event.time), event.reason)
            case Final():
                start, self._end = self._open.popleft().start, self._time(event.end)
                self._goes_on = self._cut and not ends_sentence([word.text for word in event.words])
                self.settled += 1
                return dataclasses.replace(
                    event, utterance=number, start=start, end=self._end, words=self._words(event.words)
                )

    def _advance(self, event: Progress) -> Progress | None:
        frames = event.time * self._format.rate
        whole = round(frames)
        # Whole frames are told as exactly that, as by an engine that has heard all from the beginning.
        exact = abs(frames - whole) < 1e-6
        time = (self._base + (whole if exact else frames)) / self._format.rate
        progress = Progress(max(self._progress.time, time), max(self._progress.settled, self._seconds + event.settled))
        if progress == self._progress:
            return None
        if progress.time > self._progress.time:
            self.settled += 1
        self._progress = progress
        return progress

    def _time(self, seconds: float) -> float:
        return round(self._seconds + seconds, 3) if self._base else seconds

    def _words(self, words: Sequence[Word]) -> tuple[Word, ...]:
        if not self._base:
            return tuple(words)
        return tuple(
            dataclasses.replace(word, start=self._time(word.start), end=self._time(word.end)) for word in words
        )

    def _forget(self) -> None:
        """Let go of audio that no engine will have to hear again."""
        needed = self._open[0].start if self._open else self._progress.settled - self._pre_roll
        place = int(max(self._end, needed - _WARM_UP, 0.0) * self._format.rate)
        if self._flushes:
            place = min(place, self._flushes[0] // self._format.frame_bytes)
        self._needed = max(self._needed, place // self._unit * self._unit)
        start = self._needed * self._format.frame_bytes
        while self._kept and self._kept_from + len(self._kept[0]) <= start:
            self._kept_from += len(self._kept.popleft())


def _aligned(rate: int) -> int:
    """Return after how many frames of the input voice activity detection begins a frame exactly with one of them."""
    unit = math.lcm(FRAME * rate, SAMPLE_RATE) // SAMPLE_RATE
    return unit if unit <= _MOST_FRAMES * FRAME * rate / SAMPLE_RATE else 1
