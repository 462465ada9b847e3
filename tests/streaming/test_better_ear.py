"""How long finals wait for the better ear: as long as it pays."""

from __future__ import annotations

import pytest
from parastream.streaming.better_ear import Patience
from parastream.streaming.capacity import LATE, Cost, Load
from parastream.streaming.pending import Queues
from parastream.streaming.schedule import INDULGENCE
from parastream.streaming.work import Ear, FinalWork

from .scripted import hypothesis
from .test_pending import NOW, FakeSession, FakeUtterance, begun, final

COST = Cost((100, 0.04))  # seconds of 100 rows


def load(needed: float = 0.0) -> Load:
    """A machine that has been busy so far."""
    shares = Load(NOW - 1000)
    for second in range(100):
        shares.add(NOW - 100 + second, NOW - 100 + second + needed, ahead=0.0, extra=0.0)
    return shares


def awaited(decided: float = NOW, *, first: bool = True) -> FinalWork:
    """A pass of the better ear over an utterance that ended then; `first`: the other one has heard it."""
    utterance = FakeUtterance(end=16_000)
    utterance.timeline.decided = decided
    if first:
        utterance.hypotheses[Ear.FIRST] = hypothesis()
    return final(FakeSession(), utterance, rows=100, ear=Ear.BETTER)


def too_late(
    queues: Queues, patience: Patience | None = None, *, now: float = NOW, needed: float = 0.0, window_wait: float = 0.0
) -> list[FinalWork]:
    return (patience or Patience()).too_late(queues, COST, load(needed), now, window_wait=window_wait)


def waiting(*works: FinalWork) -> Queues:
    queues = Queues()
    for number, work in enumerate(works):
        queues.add([work], NOW + number / 1000)
    return queues


def test_finals_wait_for_a_while() -> None:
    queues = waiting(awaited())
    assert too_late(queues) == []
    assert too_late(queues, now=NOW + INDULGENCE - 0.01) == []
    assert too_late(queues, now=NOW + INDULGENCE + 0.01) == [queues.finals[0].work]


def test_finals_do_not_wait_for_what_will_be_too_late() -> None:
    """Of passes that wait for each other, as many are awaited as will be over in time."""
    works = [awaited() for _ in range(20)]
    in_time = int((INDULGENCE + 0.04) / 0.04)
    assert too_late(waiting(*works)) == works[in_time:]
    assert too_late(waiting(*works), needed=0.5) == works[in_time // 2 :], "the others get half of the time"


def test_one_that_has_begun_counts_for_what_is_left_of_it() -> None:
    other, work = awaited(), awaited(NOW - INDULGENCE - 0.01)
    queues = waiting(other)
    queues.passes = [begun(work)[0]]
    assert too_late(queues) == [work]
    queues.passes[0].seconds = 0.02
    assert too_late(queues) == []


def test_finals_that_lack_something_else_wait_anyway() -> None:
    unheard, paused, given_up, ahead = awaited(0.0, first=False), awaited(0.0), awaited(0.0), awaited(0.0)
    paused.utterance.end, given_up.utterance.forgone = None, True
    queues = waiting(unheard, paused, given_up, final(FakeSession(), FakeUtterance(end=16_000)))
    queues.add([ahead], NOW + 10)
    assert too_late(queues) == []


def test_where_windows_are_late_no_final_waits_for_long() -> None:
    queues = waiting(awaited())
    assert too_late(queues, window_wait=LATE) == []
    assert too_late(queues, window_wait=LATE + 0.01) == []
    assert too_late(queues, now=NOW + 0.01, window_wait=LATE + 0.01) == [queues.finals[0].work]


def test_finals_wait_the_less_the_less_it_pays() -> None:
    queues, patience = waiting(awaited()), Patience()
    patience.add(too_late=100)
    assert too_late(queues, patience) == []
    assert too_late(queues, patience, now=NOW + 0.01) == [queues.finals[0].work]
    patience.add(in_time=100)
    assert too_late(queues, patience, now=NOW + 0.9 * INDULGENCE) == []
    patience.add(in_time=10, too_late=10)
    assert too_late(queues, patience, now=NOW + 0.9 * INDULGENCE) == [queues.finals[0].work]


def test_the_load_is_told_by_what_it_is_for() -> None:
    shares = Load(NOW)
    shares.add(NOW, NOW + 1, ahead=0.2, extra=0.3)
    at = NOW + 1
    assert 0 < shares.needed.at(at) < shares.live.at(at) < shares.all.at(at)
    idle = shares.needed.at(NOW + 3)
    shares.add(NOW + 2, NOW + 3, ahead=1.0, extra=0.5)
    assert shares.needed.at(NOW + 3) == pytest.approx(idle)
