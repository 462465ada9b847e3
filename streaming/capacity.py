"""What work costs on this machine, and how many sessions it can therefore serve in real time.

Costs are measured when the models are warm, and then corrected by everything that is computed. What is promised is a
machine on which all sessions speak all the time: sessions that are silent for a while may all speak at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.model.config import ROW_SECONDS
from parastream.model.errors import CapacityError
from parastream.model.final_pass import FinalInput, FinalPass
from parastream.model.punctuation import Context
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.runner import Runner
from parastream.streaming.vad import FRAME
from parastream.streaming.work import Ear

LATE = 0.25
"""A window that has waited for so many seconds is late."""

BENEFIT_OF_DOUBT = 1.5
"""While no window is late, the engine admits so many times its capacity."""

_MEMORY = 3.0  # after so many seconds of computing of one kind, older measurements weigh a third
_OUTLIER = 3.0  # a batch counts as at most so many times slower, or faster, than expected
_UTTERANCE = 5.0  # seconds of a typical utterance
_TURNS = 0.002  # seconds that the engine's own work takes for a second of audio, until that has been measured

# What `calibrate` runs:
_WINDOWS = (1, 4, 16)  # sizes of batches of windows, in sessions
_IN_A_ROW = 3  # windows of each session, one after the other
_MOST_PASSES = 8  # side by side
_FRAMES = (1, 16)  # sizes of rounds of voice activity, in sessions
_STEPS = 4  # frames of each session in a round
_HOP = 0.6  # seconds between two windows, where there are none
_SHORT, _ROWS = 25, 83  # lengths of utterances, in rows
_WORDS = ["so", "this", "is", "about", "how", "many", "words", "a", "typical", "utterance", "has", "in", "it"]
_LONG = 0.25  # what takes fewer seconds is measured twice, and the faster run counts: other programs only slow it down


class Cost:
    """Seconds that a batch of one kind of work takes, by its size."""

    def __init__(self, *measured: tuple[float, float]) -> None:
        """`measured` are rising sizes, and the seconds that a batch of each took.

        Between them the cost is taken for a straight line, and so beyond the last. There a unit costs at least half
        of what it does in the largest batch measured, lest noise make units free.
        """
        sizes, seconds = np.array(measured, np.float64).T
        seconds = np.maximum.accumulate(seconds)
        slopes = np.diff(seconds) / np.diff(sizes) if len(sizes) > 1 else seconds / sizes
        self._each = float(max(slopes[-1], seconds[-1] / sizes[-1] / 2))
        self._sizes = np.array([0.0, *sizes])
        self._seconds = np.array([max(0.0, seconds[0] - slopes[0] * sizes[0]), *seconds])
        self.slowness = 1.0
        """How many times longer than measured at the start it has taken of late."""

    @property
    def each(self) -> float:
        """Seconds that one unit more takes in a large batch."""
        return self.slowness * self._each

    def of(self, size: float, batches: float = 1) -> float:
        """Return the seconds that so many batches of one size are expected to take."""
        beyond = max(0.0, size - float(self._sizes[-1])) * self._each
        return self.slowness * batches * (float(np.interp(size, self._sizes, self._seconds)) + beyond)

    def observe(self, seconds: float, size: float, batches: float = 1) -> None:
        """Take note of what such batches took. Those that failed took no time and do not count."""
        expected = self.of(size, batches)
        if seconds > 0 and expected > 0:
            ratio = min(max(seconds / expected, 1 / _OUTLIER), _OUTLIER)
            self.slowness *= 1 + (1 - math.exp(-expected / _MEMORY)) * (ratio - 1)


@dataclass(slots=True)
class Capacity:
    """Costs of everything that the engine does."""

    hop: float
    """Seconds of audio in a window."""
    row: float
    """Seconds of audio in a row of features."""
    windows: Cost
    """Of a batch of streaming windows."""
    passes: Cost
    """Of the rows in a batch of final passes that every utterance gets."""
    better: Cost
    """Of those of the better ear, which do not count towards the capacity: it gives way."""
    refinements: Cost
    """Of rows that the better ear hears again for partials; most of what it says then has been said before."""
    frames: Cost
    """Of one frame of voice activity of each of some sessions."""
    marks: Cost
    """Of the punctuation of an utterance."""
    turns: Cost
    """Of everything else, by seconds of audio."""

    def of(self, ear: Ear, *, refines: bool = False) -> Cost:
        """Return the cost of an ear's passes, or of those that refine partials."""
        if refines:
            return self.refinements
        return self.better if ear is Ear.BETTER else self.passes

    def utilisation(self, sessions: int, most_windows: int) -> float:
        """Share of the machine's time that so many sessions take when all of them speak all the time.

        It is the share for batches as large as they can be: a window of each session, but at most `most_windows`,
        whenever audio for another one has come; and a pass over all utterances that end in half of that time.
        """
        batch = min(sessions, most_windows)
        windows = self.windows.of(batch, sessions / batch) / self.hop
        frames = self.frames.of(sessions) * SAMPLE_RATE / FRAME
        together = max(1.0, sessions * self.hop / 2 / _UTTERANCE)
        passes = self.passes.of(together * _UTTERANCE / self.row, sessions / together) / _UTTERANCE
        return windows + frames + passes + sessions * (self.marks.of(1) / _UTTERANCE + self.turns.of(1))

    def sessions(self, utilisation: float, most_windows: int) -> int:
        """Return the largest number of sessions that take no more than this share, but at least one."""
        low, high = 1, 2
        while high < 1 << 16 and self.utilisation(high, most_windows) <= utilisation:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.utilisation(middle, most_windows) <= utilisation else (low, middle)
        return low


def has_room(sessions: int, capacity: int, wait: float) -> bool:
    """Whether one more session fits, where so many are and the longest that a window has waited of late is `wait`.

    The capacity decides once windows are late. Until then it may be too low by a half: people pause when they speak,
    and costs are measured in moments in which other programs may be at work too.
    """
    return places(sessions, capacity, wait) > 0


def places(sessions: int, capacity: int, wait: float) -> int:
    """Return how many more sessions would have room; see `has_room`."""
    return max(0, math.ceil(capacity if wait > LATE else BENEFIT_OF_DOUBT * capacity) - sessions)


def no_room(sessions: int) -> CapacityError:
    """Return the error of a session for which there is no room beside so many."""
    return CapacityError(
        f"serving {sessions} session{'s' * (sessions != 1)}, which is what this machine can do in real"
        " time; try again when one has ended"
    )


def calibrate(runner: Runner) -> Capacity:
    """Measure warm models on the thread that will run them. It takes a fraction of a second for the embedded ones."""
    models = runner.models
    speech, punctuation = models.front, models.punctuation
    sound = _sound(int(_UTTERANCE + 1) * SAMPLE_RATE)
    row = round(ROW_SECONDS * SAMPLE_RATE)
    lanes = min(models.lanes, _MOST_PASSES)  # up to so many utterances take about as long as one
    passes = sorted({(1, _SHORT), (1, _ROWS), (lanes, _ROWS), (2 * lanes, _ROWS)})

    def recognise(ear: FinalPass, count: int, length: int) -> float:
        inputs = [FinalInput(sound[: length * row])] * count
        return _best(lambda: list(ear.transcribe_in_slices(inputs, steps=1 << 16)))

    def frames(size: int) -> float:
        states = [models.vad.new_state() for _ in range(size)]
        return _best(lambda: models.vad([sound[: _STEPS * FRAME]] * size, states)) / _STEPS

    first, better = runner.ears[Ear.FIRST], runner.ears.get(Ear.BETTER)
    of_better = (1, 0.0) if better is None else (_ROWS, recognise(better, 1, _ROWS))
    return Capacity(
        hop=_HOP if speech is None else speech.window_samples / SAMPLE_RATE,
        row=ROW_SECONDS,
        windows=Cost((1, 0.0)) if speech is None or not speech.config.streams else _cost_of_windows(speech, sound),
        passes=Cost(*((count * length, recognise(first, count, length)) for count, length in passes)),
        better=Cost(of_better),
        refinements=Cost(of_better),
        frames=Cost(*((size, frames(size)) for size in _FRAMES)),
        marks=Cost((1, _best(lambda: punctuation.mark_words(_WORDS, Context(), end=True)) if punctuation else 0.0)),
        turns=Cost((1, _TURNS)),
    )


def _cost_of_windows(speech: SpeechModel, sound: NDArray[np.float32]) -> Cost:
    hop, fresh = speech.config.chunk.hop, speech.frontend(sound)

    def seconds(size: int) -> float:
        states = [speech.network.new_state() for _ in range(size)]
        # Other places of the sound for each: as in a real batch, there are some in every window that hear something.
        places = [place % (len(fresh) - _IN_A_ROW * hop) for place in range(0, 7 * size, 7)]
        times = []
        for shift in range(0, _IN_A_ROW * hop, hop):
            began = time.perf_counter()
            features = [fresh[place + shift : place + shift + hop] for place in places]
            speech.network.step(features, states, [False] * size)
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2]

    lanes = speech.network.lanes
    # The largest says how many utterances a GPU has room for from then on, whoever comes.
    sizes = [*_WINDOWS, lanes, 2 * lanes] if lanes > _WINDOWS[-1] else _WINDOWS
    return Cost(*((size, seconds(size)) for size in sizes))


def _best(run: Callable[[], object]) -> float:
    def measure() -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    seconds = measure()
    return seconds if seconds > _LONG else min(seconds, measure())


def _sound(samples: int) -> NDArray[np.float32]:
    """Return a buzz that swells four times a second: networks hear something in it, so their decoders work too."""
    seconds = np.arange(samples) / SAMPLE_RATE
    swell = (1 + np.sin(2 * np.pi * 4 * seconds)) / 2
    return (0.3 * swell * np.sign(np.sin(2 * np.pi * 120 * seconds))).astype(np.float32)


class Utilisation:
    """The share of time spent computing, over about the last ten seconds."""

    MEMORY = 10.0

    def __init__(self, now: float) -> None:
        self._share = 0.0
        self._at = now

    def add(self, began: float, ended: float) -> None:
        """Take note of a stretch of computing, later than those before."""
        self._share = 1 - (1 - self.at(began)) * math.exp((began - ended) / self.MEMORY)
        self._at = ended

    def at(self, now: float) -> float:
        """Return the share at an instant."""
        return self._share * math.exp(min(0.0, self._at - now) / self.MEMORY)


class Load:
    """What the engine's time goes to, as shares of it."""

    def __init__(self, now: float) -> None:
        self.all = Utilisation(now)
        """Everything."""
        self.live = Utilisation(now)
        """Everything but audio that comes ahead of real time."""
        self.needed = Utilisation(now)
        """Of that, what sessions cannot do without: not the better ear, and not partials that are refined."""

    def add(self, began: float, ended: float, *, ahead: float, extra: float) -> None:
        """Take note of a stretch of computing, later than those before.

        `ahead` seconds of it went to audio ahead of real time, and `extra` to what the others could do without.
        """
        self.all.add(began, ended)
        self.live.add(min(began + ahead, ended), ended)
        self.needed.add(min(began + ahead + extra, ended), ended)


class Longest:
    """The largest of some values, over the last ten to twenty seconds."""

    MEMORY = 10.0

    def __init__(self, now: float) -> None:
        self._began = now
        self._before = self._current = 0.0

    def add(self, value: float, now: float) -> None:
        """Take note of a value."""
        self._age(now)
        self._current = max(self._current, value)

    def at(self, now: float) -> float:
        """Return the largest; 0 without any."""
        self._age(now)
        return max(self._before, self._current)

    def _age(self, now: float) -> None:
        if now - self._began >= self.MEMORY:
            self._before = self._current if now - self._began < 2 * self.MEMORY else 0.0
            self._current, self._began = 0.0, now
