"""When finals wait for the better ear, and what it hears besides: it never takes what others need."""

from __future__ import annotations

from collections.abc import Iterable

from parastream.streaming import schedule
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.capacity import LATE, Cost, Load
from parastream.streaming.pending import Queues
from parastream.streaming.refinement import EVERY
from parastream.streaming.schedule import Waiting
from parastream.streaming.session import Session
from parastream.streaming.work import Ear, FinalWork

_FINALS = 20
"""Passes over which it is averaged how many are in time."""


class Patience:
    """For how long finals wait for the better ear: the less often it comes in time, the less."""

    def __init__(self) -> None:
        self._in_time = 1.0
        """Share of its passes, of late."""

    def add(self, *, in_time: int = 0, too_late: int = 0) -> None:
        """Take note of passes."""
        for each in [1.0] * in_time + [0.0] * too_late:
            self._in_time += (each - self._in_time) / _FINALS

    def too_late(self, queues: Queues, cost: Cost, load: Load, now: float, *, window_wait: float) -> list[FinalWork]:
        """Return passes that will not be over in time, of utterances whose finals wait for nothing else.

        They are taken to be computed in the order in which they wait, in the time that sessions can do without. A pass
        is in time if it is over when it could have been, had it begun at the end of its utterance, and so much later as
        finals wait. Where windows are late, or none of these passes is ever in time, finals do not wait.

        Args:
            queues: What waits.
            cost: Of rows that the better ear hears.
            load: Of the engine.
            now: An instant.
            window_wait: Seconds that a window has waited of late, at most.
        """
        patience = 0.0 if window_wait > LATE else schedule.INDULGENCE * self._in_time
        share = max(schedule.LEAST, 1 - load.needed.at(now))
        late, wait = [], 0.0
        for begun in queues.passes:
            decided = [item.work for item in begun.batch if _awaited(item, now)]
            if decided:
                wait += max(0.0, cost.of(begun.rows) - begun.seconds) / share
                late += [work for work in decided if now + wait > _could_be_over(work, cost) + patience]
        for item in sorted((item for item in queues.finals if _awaited(item, now)), key=lambda item: item.due):
            takes = cost.of(item.work.rows) / share
            if now + wait + takes > _could_be_over(item.work, cost) + patience:
                late.append(item.work)
            else:
                wait += takes
        return [work for work in late if Ear.FIRST in work.utterance.hypotheses]


def _awaited(item: Waiting[FinalWork], now: float) -> bool:
    """Whether somebody waits for this pass of the better ear."""
    return item.work.better and item.work.decided and item.work.wanted and item.urgent(now)


def _could_be_over(work: FinalWork, cost: Cost) -> float:
    return work.utterance.timeline.decided + cost.of(work.rows)


def next_refinements(sessions: Iterable[Session], cost: Cost) -> list[Waiting[FinalWork]]:
    """Return open utterances of which the better ear should hear more, those first that have waited longest.

    Args:
        sessions: Those that come into question.
        cost: Of the rows that it hears again.
    """
    found = []
    for session in sessions:
        work = session.refinable(every=EVERY)
        if work is not None:
            rest = schedule.REST * cost.of(work.rows) * SAMPLE_RATE
            if work.fresh >= rest:
                found.append(Waiting(work, -float(work.fresh)))
    return sorted(found, key=lambda item: item.due)
