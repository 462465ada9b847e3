"""Native sessions by name: resumed, or forgotten in time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from parastream.model.errors import CapacityError
from parastream.server.protocols.native.registry import Registry
from parastream.server.wire.messages import Event, Final, Start
from parastream.server.wire.refusals import RefusalError

from ...fakes import FakeEngine, FakeStream, admission, heard


class Book:
    """A registry with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.engine = FakeEngine()
        self.rescheduled = 0
        self.registry = Registry(admission(self.engine), lambda: self.now, resume_window=30.0, max_unsent=10)
        self.registry.on_reschedule = self.reschedule

    def reschedule(self) -> None:
        self.rescheduled += 1


def test_names_cannot_be_guessed() -> None:
    registry = Book().registry
    names = {registry.open(Start()).name for _ in range(10)}
    assert len(names) == 10
    assert min(map(len, names)) >= 32


def test_a_session_waits_for_its_client_and_no_longer() -> None:
    book = Book()
    registry, streams = book.registry, book.engine.streams
    first, second = registry.open(Start()), registry.open(Start())
    assert registry.tick(book.now) == math.inf
    registry.release(first)
    book.now += 10
    registry.release(second)
    assert book.rescheduled == 2
    assert registry.tick(book.now) == 1030
    assert registry.tick(1030) == 1040
    assert [stream.cancelled for stream in streams] == [True, False]
    assert registry.resume(second.name, 0) is second
    assert registry.tick(5000) == math.inf
    assert not streams[1].cancelled
    with pytest.raises(RefusalError, match="its connection broke more than 30 s ago"):
        registry.resume(first.name, 0)


def test_once_closed_it_waits_for_nobody() -> None:
    book = Book()
    registry, streams = book.registry, book.engine.streams
    away, here = registry.open(Start()), registry.open(Start())
    registry.release(away)
    registry.close()
    assert [stream.cancelled for stream in streams] == [True, False]
    registry.release(here)
    assert (streams[1].cancelled, len(registry)) == (True, 0)


def test_sessions_without_a_connection_give_way_to_new_ones_and_no_others_do() -> None:
    engine = FakeEngine()
    registry = Registry(admission(engine, max_sessions=3), lambda: 0.0, resume_window=30.0, max_unsent=10)
    first, _, third = (registry.open(Start()) for _ in range(3))
    registry.release(third)
    registry.release(first)
    registry.open(Start())
    assert [stream.cancelled for stream in engine.streams] == [False, False, True, False]
    registry.open(Start())
    assert [stream.cancelled for stream in engine.streams] == [True, False, True, False, False]
    with pytest.raises(RefusalError, match="all 3 sessions are in use"):
        registry.open(Start())
    with pytest.raises(RefusalError, match="there is no such session"):
        registry.resume(first.name, 0)


def test_they_give_way_when_the_engine_is_full_too() -> None:
    engine = FakeEngine()
    registry = Registry(admission(engine), lambda: 0.0, resume_window=30.0, max_unsent=10)
    registry.release(registry.open(Start()))
    refusals = iter([CapacityError("serving 1 session"), None])
    opened = engine.open

    def refuse_once(*arguments: Any) -> FakeStream:
        refusal = next(refusals)
        if refusal is not None:
            raise refusal
        return opened(*arguments)

    engine.open = refuse_once  # type: ignore[method-assign, assignment]
    registry.open(Start())
    assert [stream.cancelled for stream in engine.streams] == [True, False]


def test_what_they_have_said_is_still_recognised_for_who_listens() -> None:
    engine = FakeEngine()
    gate = admission(engine, max_sessions=1)
    registry = Registry(gate, lambda: 0.0, resume_window=30.0, max_unsent=10)
    away = registry.open(Start())
    told: list[Event] = []
    away.transcription.listeners.append(told.append)
    engine.streams[0].hold_end = True
    away.hear(bytes(100))
    registry.release(away)
    registry.open(Start())
    assert engine.streams[0].ended
    engine.streams[0].tell(heard(0, bytes(100)))
    assert any(isinstance(event, Final) for event in told)
