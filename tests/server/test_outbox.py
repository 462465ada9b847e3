"""Numbering, coalescing and replay of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parastream.server.sessions.outbox import Outbox
from parastream.server.wire.messages import Event, Final, Partial, SpeechEnded, SpeechStarted
from parastream.server.wire.refusals import RefusalError


def partial(utterance: int, text: str = "") -> Partial:
    return Partial(utterance, 0.0, 1.0, text, "", ())


def final(utterance: int) -> Final:
    return Final(utterance, 0.0, 1.0, "text", (), 0.0)


def drain(outbox: Outbox) -> list[Event]:
    events = []
    while (event := outbox.take()) is not None:
        events.append(event)
    return events


def test_events_are_numbered_and_kept_in_order() -> None:
    outbox = Outbox(10)
    outbox.add(SpeechStarted(0, 0.0))
    outbox.add(final(0))
    assert [(type(event), event.seq) for event in drain(outbox)] == [(SpeechStarted, 1), (Final, 2)]
    assert outbox.take() is None


def test_only_the_newest_partial_waits() -> None:
    outbox = Outbox(10)
    outbox.add(SpeechStarted(0, 0.0))
    for text in ("a", "ab", "abc"):
        outbox.add(partial(0, text))
    outbox.add(partial(1, "other utterance"))
    assert [event.seq for event in drain(outbox)] == [1, 4, 5]
    outbox.add(partial(1))
    outbox.add(final(1))
    assert [type(event) for event in drain(outbox)] == [Final]


def test_rewind_sends_again_what_did_not_arrive() -> None:
    outbox = Outbox(10)
    for utterance in range(3):
        outbox.add(partial(utterance))
        outbox.add(final(utterance))
    assert [event.seq for event in drain(outbox)] == [2, 4, 6]
    outbox.rewind(2)
    assert [event.seq for event in drain(outbox)] == [4, 6]
    outbox.rewind(6)
    assert drain(outbox) == []


@pytest.mark.parametrize("received", [0, 3, 99])
def test_rewind_refuses_what_it_cannot_do(received: int) -> None:
    outbox = Outbox(10)
    for utterance in range(20):
        outbox.add(final(utterance))
        outbox.take()
    with pytest.raises(RefusalError, match="possible are 10 to 20"):
        outbox.rewind(received)


def test_it_overflows_with_events_but_not_with_partials() -> None:
    outbox = Outbox(5)
    for _ in range(100):
        outbox.add(partial(0))
    assert not outbox.overflowing
    for utterance in range(5):
        outbox.add(SpeechEnded(utterance, 1.0))
    assert outbox.overflowing


@settings(deadline=None)
@given(st.lists(st.sampled_from(["partial", "final", "take", "break"]), max_size=60), st.data())
def test_a_client_that_reconnects_misses_and_repeats_nothing(steps: list[str], data: st.DataObject) -> None:
    """Whatever is sent when, and wherever the connection breaks: every final arrives once, in order."""
    outbox, utterance = Outbox(100), 0
    received: list[Event] = []
    in_flight: list[Event] = []  # sent on this connection
    for step in steps:
        if step == "partial":
            outbox.add(partial(utterance))
        elif step == "final":
            outbox.add(final(utterance))
            utterance += 1
        elif step == "take":
            if (event := outbox.take()) is not None:
                in_flight.append(event)
        else:
            arrived = data.draw(st.integers(0, len(in_flight)))
            received += in_flight[:arrived]
            in_flight = []
            outbox.rewind(received[-1].seq if received else 0)
    received += in_flight + drain(outbox)
    assert [event.utterance for event in received if isinstance(event, Final)] == list(range(utterance))
    seqs = [event.seq for event in received]
    assert seqs == sorted(set(seqs))
