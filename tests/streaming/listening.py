"""Who listens to an engine: to one session's events, or to the engine's own account of its work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from parastream.streaming import Engine, Observer, SessionConfig, Stream
from parastream.streaming.events import Event, Progress, SessionEnded
from parastream.streaming.observer import Batch, FinalTiming, Kind, PartialTiming, Turn

from .driver import finals

BLOCK = 1600
"""Samples that those who `talk` send at a time."""
PATIENCE = 150.0
"""Seconds after which something that was waited for counts as never coming."""


class Recorder(Observer):
    """Keeps what an engine tells."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.watch()

    def watch(self, look: Callable[[], object] = lambda: None) -> None:
        """Begin anew, and look at something after each turn that begins from now on."""
        self._since = time.monotonic()
        self._look = look
        self.turns: list[Turn] = []
        self.partials: list[PartialTiming] = []
        self.finals: list[FinalTiming] = []

    def turn(self, turn: Turn) -> None:
        with self._changed:
            if turn.began >= self._since:
                self._look()
                self.turns.append(turn)
            self._changed.notify_all()

    def partial(self, partial: PartialTiming) -> None:
        self.partials.append(partial)

    def final(self, final: FinalTiming) -> None:
        self.finals.append(final)

    def batches(self, *kinds: Kind) -> list[Batch]:
        """Those of some kinds, in order."""
        return [batch for turn in self.turns for batch in turn.batches if batch.kind in kinds]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that a turn brings about."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE)


class Listener:
    """Collects the events of one session."""

    def __init__(self, engine: Engine, config: SessionConfig | None = None, name: str = "") -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self.stream: Stream = engine.open(config or SessionConfig(), self._take, name)

    def _take(self, events: list[Event]) -> None:
        with self._changed:
            self.events += events
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], SessionEnded)

    @property
    def looked_at(self) -> float:
        """Seconds of the audio sent."""
        return max((event.time for event in self.events if isinstance(event, Progress)), default=0.0)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the events bring about."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE)

    def wait(self) -> list[Event]:
        self.wait_until(lambda: self.ended)
        return self.events

    @property
    def outline(self) -> list[tuple[str, float, float]]:
        return [(f.text, f.start, f.end) for f in finals(self.events)]


def talk(engine: Engine, recordings: list[NDArray[np.int16]]) -> list[Listener]:
    """Sessions that all speak at once, in turns of 0.1 s."""
    listeners = [Listener(engine) for _ in recordings]
    for start in range(0, max(map(len, recordings)), BLOCK):
        for listener, recording in zip(listeners, recordings, strict=True):
            if start < len(recording):
                listener.stream.send(recording[start : start + BLOCK].tobytes())
    for listener in listeners:
        listener.stream.end()
    for listener in listeners:
        listener.wait()
    return listeners
