"""Native sessions by name: resumed, or forgotten in time."""

from __future__ import annotations

import math

import pytest
from parastream.server.protocols.native.registry import Registry
from parastream.server.wire.messages import Start
from parastream.server.wire.refusals import RefusalError

from ...fakes import FakeEngine, admission


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
