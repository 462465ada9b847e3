"""What the engine tells of its own work, for logs, metrics and tests: each turn, each partial and each final.

Instants are seconds of `time.monotonic`. Everything here is told on the inference thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from parastream.streaming.events import EndReason

logger = logging.getLogger("parastream.engine")

Kind = Literal["vad", "windows", "finals", "marks", "refinements"]
"""Rounds of voice activity, streaming windows, full-context passes, punctuation, passes that refine partials."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Work of one kind that was computed together, or as much of it as one turn had time for."""

    kind: Kind
    sessions: tuple[str, ...]
    """The name of each session, as often as it has work in the batch."""
    units: int
    """VAD frames, windows, rows of features (padding included) or utterances to mark."""
    seconds: float
    """How long it took; 0 if it failed."""
    wait: float
    """Seconds for which its oldest work had waited when the batch began; 0 for work ahead of real time."""
    complete: bool = True
    """Whether its results are there; full-context passes take several pieces, each reported on its own."""

    @property
    def size(self) -> int:
        """Pieces of work in it."""
        return len(self.sessions)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the inference thread."""

    began: float
    seconds: float
    batches: tuple[Batch, ...]
    """In the order in which they were computed."""
    windows_left: int
    """Windows of real-time audio that found no place in this turn's batch."""


@dataclass(frozen=True, slots=True)
class PartialTiming:
    """How long a partial took."""

    session: str
    utterance: int
    audio_in: float
    """When the last audio that it needs arrived."""
    told: float
    ahead: bool
    """Whether that audio came ahead of real time, so that the session had to wait for others."""
    refined: bool = False
    """Whether the better ear has heard a part of it."""

    @property
    def latency(self) -> float:
        """Seconds from the audio to the partial."""
        return self.told - self.audio_in


@dataclass(frozen=True, slots=True)
class FinalTiming:
    """The stations of an utterance on its way to its final."""

    session: str
    utterance: int
    seconds: float
    """Length of its audio."""
    reason: EndReason
    audio_in: float
    """When the last audio arrived that its end needed, or the request to flush or to finish."""
    decided: float
    """When its end was decided."""
    begun: float | None
    """When the full-context pass began, perhaps in the pause before the end; None without such a pass."""
    overtaken: int
    """How often other work was computed between two pieces of the pass."""
    overtaken_seconds: float
    """How long the pass stood still, in all."""
    done: float
    """When its words were there."""
    marked: float
    """When its marks were there; the same as `done` without marks."""
    told: float
    ahead: bool
    """Whether its audio came ahead of real time, so that the session had to wait for others."""

    @property
    def latency(self) -> float:
        """Seconds from the audio to the final."""
        return self.told - self.audio_in


class Observer:
    """Gets told by an engine. Override what you want to know.

    The calls come on the inference thread, in between batches, so they must return quickly. An observer that raises is
    logged once and told nothing more; sessions do not notice.
    """

    def turn(self, turn: Turn) -> None:
        """Take note of a turn that is over."""

    def partial(self, partial: PartialTiming) -> None:
        """Take note of a partial that has been told."""

    def final(self, final: FinalTiming) -> None:
        """Take note of a final that has been told."""


class Observers:
    """Several observers, without those that have raised."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def turn(self, turn: Turn) -> None:
        """Tell them of a turn."""
        self._tell(lambda observer: observer.turn(turn))

    def timing(self, timing: PartialTiming | FinalTiming) -> None:
        """Tell them of a partial or a final."""
        match timing:
            case PartialTiming():
                self._tell(lambda observer: observer.partial(timing))
            case FinalTiming():
                self._tell(lambda observer: observer.final(timing))

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                call(observer)
            except Exception:
                logger.exception("an observer of the engine failed; it is told nothing more")
                self._observers.remove(observer)


class LoggingObserver(Observer):
    """Says in the log, at level DEBUG, where the time of each final went, and which turns were long.

    Example:
        session ab12, utterance 3 (2.8 s, silence): final 212 ms after its audio: end decided +31, pass begun +14,
        words there +135 (overtaken 2 times, 40 ms), marks there +25, told +7
    """

    LONG_TURN = 0.25
    """Seconds from which on a turn is worth a line."""

    def __init__(self, logger: logging.Logger = logger) -> None:
        self._logger = logger

    def turn(self, turn: Turn) -> None:
        """Log a long turn, and what it was spent on."""
        if turn.seconds >= self.LONG_TURN:
            batches = ", ".join(f"{batch.kind} of {batch.size} {_ms(batch.seconds)} ms" for batch in turn.batches)
            self._logger.debug("a turn took %s ms: %s", _ms(turn.seconds), batches or "nothing to compute")

    def final(self, final: FinalTiming) -> None:
        """Log the milliseconds between the stations of an utterance."""
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug("%s", describe(final))


def describe(final: FinalTiming) -> str:
    """Return one line that says where the time of a final went."""
    overtaken = ""
    if final.overtaken:
        times = f"{final.overtaken} time{'s' * (final.overtaken != 1)}"
        overtaken = f" (overtaken {times}, {_ms(final.overtaken_seconds)} ms)"
    stations = [(final.decided, "end decided", ""), (final.done, "words there", overtaken), (final.told, "told", "")]
    if final.begun is not None:
        stations.append((final.begun, "pass begun", ""))
    if final.marked != final.done:
        stations.append((final.marked, "marks there", ""))
    before, parts = final.audio_in, []
    for at, name, note in sorted(stations, key=lambda station: station[0]):  # a pass may begin in the pause before
        parts.append(f"{name} {_ms(at - before, sign='+')}{note}")
        before = at
    return (
        f"session {final.session or '-'}, utterance {final.utterance} ({final.seconds:.1f} s, {final.reason}): "
        f"final {_ms(final.latency)} ms after its audio{' (ahead of real time)' if final.ahead else ''}: "
        f"{', '.join(parts)}"
    )


def _ms(seconds: float, sign: str = "") -> str:
    return f"{1000 * seconds:{sign}.0f}"
