"""Work that waits: what is kept, what is forgotten and when, without an engine or a model."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from parastream.model.frontend import FrontendState
from parastream.streaming.pending import PassBatch, Queues
from parastream.streaming.schedule import Waiting, rank
from parastream.streaming.session import Session
from parastream.streaming.work import Ear, FinalWork, PunctuationWork, Timeline, VadWork, WindowWork, Work

from .scripted import hypothesis

NOW = 100.0


@dataclass(eq=False)
class Config:
    final_pass: bool = True


@dataclass(eq=False)
class FakeUtterance:
    end: int | None = None
    pass_end: int | None = 16_000
    forgone: bool = False
    hypotheses: dict[Ear, Any] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)


@dataclass(eq=False)
class FakeSession:
    """As much of a session as work asks of it."""

    config: Config = field(default_factory=Config)
    skipped: list[WindowWork] = field(default_factory=list)

    def skip(self, work: WindowWork) -> None:
        self.skipped.append(work)


def window(session: FakeSession, utterance: FakeUtterance | None = None) -> WindowWork:
    samples, spoken = np.zeros(9600, np.float32), cast(Any, utterance or FakeUtterance())
    begun = FrontendState(samples[:0])
    return WindowWork(cast(Session, session), spoken, samples, begun, 9600, last=False, audio_in=NOW)


def vad(session: FakeSession) -> VadWork:
    return VadWork(cast(Session, session), np.zeros(512, np.float32), cast(Any, None))


def final(
    session: FakeSession, utterance: FakeUtterance | None = None, *, rows: int = 50, ear: Ear = Ear.FIRST
) -> FinalWork:
    samples = np.zeros(960 * rows, np.float32)
    return FinalWork(cast(Session, session), cast(Any, utterance or FakeUtterance()), samples, 16_000, ear)


def marks(session: FakeSession) -> PunctuationWork:
    return PunctuationWork(
        cast(Session, session), cast(Any, FakeUtterance()), hypothesis("one"), cast(Any, None), end=True
    )


def pass_over(batch: list[Waiting[FinalWork]]) -> PassBatch:
    return PassBatch(batch, stopped=NOW, batches_before=0)


def begun(*works: FinalWork, due: float = NOW) -> tuple[PassBatch, list[str]]:
    """A pass that has begun, and what becomes of it."""
    story: list[str] = []

    def pieces() -> Generator[None]:
        try:
            while True:
                yield
        finally:
            story.append("abandoned")

    current = pass_over([Waiting(work, due) for work in works])
    current.pieces = pieces()
    next(current.pieces)
    return current, story


def of_each_kind(session: FakeSession) -> list[Work]:
    return [vad(session), window(session), final(session), marks(session)]


def test_each_kind_of_work_waits_in_its_queue() -> None:
    queues = Queues()
    assert not queues
    session = FakeSession()
    queues.add(of_each_kind(session), due=NOW)
    for kind in (queues.vad, queues.windows, queues.finals, queues.marks):
        assert [item.due for item in kind] == [NOW]


@pytest.mark.parametrize("number", range(4))
def test_one_piece_of_any_kind_is_something_that_waits(number: int) -> None:
    queues = Queues()
    queues.add([of_each_kind(FakeSession())[number]], due=NOW)
    assert queues


def test_a_pass_that_has_begun_is_something_that_waits() -> None:
    queues = Queues(passes=[begun(final(FakeSession()))[0]])
    assert queues


def test_the_work_of_a_session_that_is_over_is_forgotten() -> None:
    gone, stays = FakeSession(), FakeSession()
    queues = Queues()
    for session in (gone, stays):
        queues.add(of_each_kind(session), due=NOW)
    queues.drop([cast(Session, gone)])
    waiting: list[Waiting[Any]] = [*queues.vad, *queues.windows, *queues.finals, *queues.marks]
    assert [item.work.session for item in waiting] == 4 * [stays]


def test_a_pass_goes_on_for_as_long_as_one_of_its_sessions_is_there() -> None:
    gone, stays = FakeSession(), FakeSession()
    current, story = begun(final(gone), final(stays))
    queues = Queues(passes=[current])
    queues.drop([cast(Session, gone)])
    assert (queues.passes, story) == ([current], [])
    queues.drop([cast(Session, gone), cast(Session, stays)])
    assert (queues.passes, story) == ([], ["abandoned"])


def test_windows_of_an_utterance_that_has_ended_are_skipped_and_its_session_knows() -> None:
    session, streaming = FakeSession(), FakeSession(Config(final_pass=False))
    late, needed = window(session, FakeUtterance(end=16_000)), window(session)
    last = window(streaming, FakeUtterance(end=16_000))  # without a pass its windows are all that it has
    queues = Queues()
    queues.add([late, needed, last], due=NOW)
    queues.drop_unwanted()
    assert [item.work for item in queues.windows] == [needed, last]
    assert (session.skipped, streaming.skipped) == ([late], [])


def test_passes_over_pauses_that_are_over_are_forgotten() -> None:
    session, paused, spoke = FakeSession(), FakeUtterance(), FakeUtterance(pass_end=None)
    queues = Queues()
    queues.add([wanted := final(session, paused), final(session, spoke)], due=NOW)
    kept, kept_story = begun(final(session, paused), final(session, spoke))
    dropped, dropped_story = begun(final(session, spoke))
    queues.passes = [kept, dropped]
    queues.drop_unwanted()
    assert [item.work for item in queues.finals] == [wanted]
    assert (queues.passes, kept_story, dropped_story) == ([kept], [], ["abandoned"])


def test_the_oldest_pass_that_somebody_waits_for_is_known() -> None:
    session, ended = FakeSession(), FakeUtterance(end=16_000)
    queues = Queues()
    assert queues.oldest_decided == math.inf
    queues.add([final(session)], due=NOW - 9)  # a pause: nobody waits for it yet
    assert queues.oldest_decided == math.inf
    queues.add([final(session, ended)], due=NOW - 1)
    assert queues.oldest_decided == NOW - 1
    queues.passes = [begun(final(session), final(session, ended), due=NOW - 3)[0]]
    assert queues.oldest_decided == NOW - 3


def test_a_pass_is_as_urgent_as_the_most_urgent_utterance_in_it() -> None:
    session = FakeSession()
    pause, decided = Waiting(final(session), NOW - 1), Waiting(final(session, FakeUtterance(end=16_000)), NOW)
    assert rank(decided, NOW) < rank(pause, NOW)
    assert pass_over([pause, decided]).rank(NOW) == pass_over([decided]).rank(NOW) == rank(decided, NOW)


def test_a_pass_counts_the_rows_of_its_padding() -> None:
    session = FakeSession()
    batch = [Waiting(final(session, rows=rows), NOW) for rows in (10, 50, 30)]
    assert pass_over(batch).rows == 3 * 50


def test_an_utterance_knows_how_long_other_work_overtook_its_pass() -> None:
    session, paused, spoke = FakeSession(), FakeUtterance(), FakeUtterance(pass_end=None)
    current, _ = begun(final(session, paused), final(session, spoke))
    current.overtake(NOW + 0.5)
    current.stopped = NOW + 1.0
    current.overtake(NOW + 1.25)
    assert (paused.timeline.begun, paused.timeline.overtaken, paused.timeline.overtaken_seconds) == (NOW, 2, 0.75)
    assert spoke.timeline.overtaken == 0  # nobody waits for it
    begun(final(session, paused))  # once more: the pause went on
    assert (paused.timeline.overtaken, paused.timeline.overtaken_seconds) == (0, 0.0)


def test_what_came_ahead_of_real_time_keeps_nobody_from_anything() -> None:
    session, queues = FakeSession(), Queues()
    assert queues.idle(NOW)
    queues.add(of_each_kind(session), due=NOW + 10)
    queues.passes = [begun(final(session), due=NOW + 10)[0]]
    assert queues.idle(NOW)
    assert not queues.idle(NOW + 10)
    for item in of_each_kind(session):
        other = Queues()
        other.add([item], due=NOW)
        assert not other.idle(NOW)
    queues.passes.append(begun(final(session))[0])
    assert not queues.idle(NOW)


def test_the_better_ear_never_gets_time_that_windows_need() -> None:
    queues = Queues()
    queues.add([final(FakeSession(), FakeUtterance(end=16_000), ear=Ear.BETTER)], NOW)
    assert queues.oldest_decided == math.inf
