"""The way from the inference thread to the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from parastream.server.sessions.mailbox import Mailbox
from parastream.streaming.events import Event, SessionEnded


def test_the_receiver_is_woken_once_for_all_that_has_come() -> None:
    calls: list[Callable[[], None]] = []
    received: list[float] = []

    def receive(events: Sequence[Event]) -> None:
        received.extend(event.time for event in events if isinstance(event, SessionEnded))

    mailbox = Mailbox(calls.append)
    for time in range(5):
        mailbox.put(receive, [SessionEnded(time)])
    assert (len(calls), received) == (1, [])
    calls.pop()()
    assert received == [0, 1, 2, 3, 4]
    mailbox.put(receive, [SessionEnded(5)])
    assert len(calls) == 1


def test_a_receiver_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    received: list[Sequence[Event]] = []

    def fail(events: Sequence[Event]) -> None:
        raise ValueError("a bug")

    calls: list[Callable[[], None]] = []
    mailbox = Mailbox(calls.append)
    mailbox.put(fail, [])
    mailbox.put(received.append, [SessionEnded(1.0)])
    calls.pop()()
    assert received == [[SessionEnded(1.0)]]
    assert "a bug" in caplog.text


def test_a_loop_that_is_gone_is_no_error() -> None:
    def post(call: Callable[[], None]) -> None:
        raise RuntimeError("the loop is closed")

    Mailbox(post).put(lambda events: None, [])


def test_nothing_is_lost_or_reordered_between_threads() -> None:
    total = 20_000
    received: list[float] = []
    wake, done = threading.Semaphore(0), threading.Event()
    calls: list[Callable[[], None]] = []

    def post(call: Callable[[], None]) -> None:
        calls.append(call)
        wake.release()

    def receive(events: Sequence[Event]) -> None:
        received.extend(event.time for event in events if isinstance(event, SessionEnded))

    def consume() -> None:
        while len(received) < total and not done.is_set():
            if wake.acquire(timeout=0.1):
                calls.pop(0)()

    mailbox = Mailbox(post)
    consumer = threading.Thread(target=consume)
    consumer.start()
    for number in range(total):
        mailbox.put(receive, [SessionEnded(number)])
    consumer.join(60)
    done.set()
    assert received == list(range(total))
