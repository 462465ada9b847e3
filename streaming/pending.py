"""Work that sessions have handed out and that waits to be computed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, field

from parastream.streaming import schedule
from parastream.streaming.schedule import Rank, Waiting
from parastream.streaming.session import Session
from parastream.streaming.work import Ear, FinalWork, PunctuationWork, VadWork, WindowWork, Work


@dataclass(eq=False)
class PassBatch:
    """A batch of full-context passes that has begun."""

    batch: list[Waiting[FinalWork]]
    stopped: float
    """When its latest piece was over; at first, when it began."""
    batches_before: int
    """How many batches the engine had computed then."""
    pieces: Generator[None] = field(init=False)
    """Computes it, a few layers at a time."""
    seconds: float = 0.0
    """What it has taken so far."""

    def __post_init__(self) -> None:
        for item in self.batch:
            if item.work.refines:
                continue  # the stations of the final are others
            timeline = item.work.utterance.timeline
            timeline.begun, timeline.overtaken, timeline.overtaken_seconds = self.stopped, 0, 0.0

    def overtake(self, now: float) -> None:
        """Take note that other work has been computed since the latest piece."""
        for item in self.batch:
            if item.work.wanted and not item.work.refines:
                timeline = item.work.utterance.timeline
                timeline.overtaken += 1
                timeline.overtaken_seconds += now - self.stopped

    def rank(self, now: float) -> Rank:
        """Return the rank of the most urgent pass in it."""
        return min(schedule.rank(item, now) for item in self.batch)

    @property
    def ear(self) -> Ear:
        """Which one it is of."""
        return self.batch[0].work.ear

    @property
    def refines(self) -> bool:
        """Whether it refines partials."""
        return self.batch[0].work.refines

    @property
    def rows(self) -> int:
        """Padding included."""
        return len(self.batch) * max(item.work.rows for item in self.batch)


@dataclass
class Queues:
    """What waits: at most one piece of each kind from each session.

    Passes are the exception: there may be one for each utterance without a final, and one for a pause.
    """

    vad: list[Waiting[VadWork]] = field(default_factory=list)
    windows: list[Waiting[WindowWork]] = field(default_factory=list)
    finals: list[Waiting[FinalWork]] = field(default_factory=list)
    passes: list[PassBatch] = field(default_factory=list)
    """Those that have begun. They overtake each other by rank only, so there are nine at most."""
    marks: deque[Waiting[PunctuationWork]] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self.vad or self.windows or self.finals or self.passes or self.marks)

    @property
    def oldest_decided(self) -> float:
        """Since when the oldest pass over an utterance that has ended waits; infinity without one."""
        begun = [item for current in self.passes for item in current.batch]
        due = (item.due for item in [*begun, *self.finals] if item.work.decided and not item.work.better)
        return min(due, default=math.inf)

    def idle(self, now: float) -> bool:
        """Whether nothing waits but what came ahead of real time."""
        waiting = (*self.vad, *self.windows, *self.finals, *self.marks)
        return all(begun.rank(now) >= Rank.AHEAD for begun in self.passes) and not any(w.urgent(now) for w in waiting)

    def add(self, work: Iterable[Work], due: float) -> None:
        """Take what a session hands out."""
        for item in work:
            match item:
                case VadWork():
                    self.vad.append(Waiting(item, due))
                case WindowWork():
                    self.windows.append(Waiting(item, due))
                case FinalWork():
                    self.finals.append(Waiting(item, due))
                case PunctuationWork():
                    self.marks.append(Waiting(item, due))

    def take_windows(
        self, now: float, *, most: int, extra: int, placed: Callable[[list[WindowWork]], list[WindowWork]]
    ) -> list[Waiting[WindowWork]]:
        """Take the next batch of windows, see `schedule.next_windows`; those for which there is no room yet stay.

        `placed` returns those that have it.
        """
        chosen = schedule.next_windows(self.windows, now, most=most, extra=extra)
        there = set(placed([item.work for item in chosen]))
        taken = [item for item in chosen if item.work in there]
        self.windows = schedule.without(self.windows, taken)
        return taken

    def drop(self, sessions: Collection[Session]) -> None:
        """Forget the work of sessions that are over."""
        self.vad = [item for item in self.vad if item.work.session not in sessions]
        self.windows = [item for item in self.windows if item.work.session not in sessions]
        self.finals = [item for item in self.finals if item.work.session not in sessions]
        self.marks = deque(item for item in self.marks if item.work.session not in sessions)
        for begun in list(self.passes):
            if all(item.work.session in sessions for item in begun.batch):
                self._abandon(begun)

    def drop_unwanted(self) -> None:
        """Forget windows of utterances that have ended, and passes over pauses that are over."""
        for item in self.windows:
            if not item.work.wanted:
                item.work.session.skip(item.work)
        self.windows = [item for item in self.windows if item.work.wanted]
        self.finals = [item for item in self.finals if item.work.wanted]
        for begun in list(self.passes):
            if not any(item.work.wanted for item in begun.batch):
                self._abandon(begun)

    def _abandon(self, begun: PassBatch) -> None:
        begun.pieces.close()
        self.passes.remove(begun)
