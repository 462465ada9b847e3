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


def box(limit: int) -> Outbox[Event]:
    return Outbox(limit, replay=limit)


def put(outbox: Outbox[Event], event: Event) -> None:
    outbox.put(event, key=event.utterance if isinstance(event, Partial | Final) else None)


def drain(outbox: Outbox[Event]) -> list[tuple[int, Event]]:
    taken = []
    while (next := outbox.take()) is not None:
        taken.append(next)
    return taken


def test_events_are_numbered_and_kept_in_order() -> None:
    outbox = box(10)
    put(outbox, SpeechStarted(0, 0.0))
    put(outbox, final(0))
    assert [(type(event), seq) for seq, event in drain(outbox)] == [(SpeechStarted, 1), (Final, 2)]
    assert outbox.take() is None


def test_only_the_newest_partial_waits() -> None:
    outbox = box(10)
    put(outbox, SpeechStarted(0, 0.0))
    for text in ("a", "ab", "abc"):
        put(outbox, partial(0, text))
    put(outbox, partial(1, "other utterance"))
    assert [seq for seq, _ in drain(outbox)] == [1, 4, 5]
    put(outbox, partial(1))
    put(outbox, final(1))
    assert [type(event) for _, event in drain(outbox)] == [Final]


def test_rewind_sends_again_what_did_not_arrive() -> None:
    outbox = box(10)
    for utterance in range(3):
        put(outbox, partial(utterance))
        put(outbox, final(utterance))
    assert [seq for seq, _ in drain(outbox)] == [2, 4, 6]
    outbox.rewind(2)
    assert [seq for seq, _ in drain(outbox)] == [4, 6]
    outbox.rewind(6)
    assert drain(outbox) == []


@pytest.mark.parametrize("received", [0, 3, 99])
def test_rewind_refuses_what_it_cannot_do(received: int) -> None:
    outbox = box(10)
    for utterance in range(20):
        put(outbox, final(utterance))
        outbox.take()
    with pytest.raises(RefusalError, match="possible are 10 to 20"):
        outbox.rewind(received)


def test_it_overflows_with_events_but_not_with_partials() -> None:
    outbox = box(5)
    for _ in range(100):
        put(outbox, partial(0))
    assert not outbox.overflowing
    for utterance in range(5):
        put(outbox, SpeechEnded(utterance, 1.0))
    assert outbox.overflowing


def test_without_replay_nothing_is_kept() -> None:
    outbox: Outbox[str] = Outbox(2)
    for text in ("first", "second", "third"):
        outbox.put(text, key="line")
    assert (len(outbox), outbox.take(), outbox.take()) == (1, (3, "third"), None)
    with pytest.raises(RefusalError, match="possible are 3 to 3"):
        outbox.rewind(2)
    outbox.put("fourth")
    outbox.clear()
    assert outbox.take() is None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["partial", "final", "take", "break"]), max_size=60), st.data())
def test_a_client_that_reconnects_misses_and_repeats_nothing(steps: list[str], data: st.DataObject) -> None:
    """Whatever is sent when, and wherever the connection breaks: every final arrives once, in order."""
    outbox, utterance = box(100), 0
    received: list[tuple[int, Event]] = []
    in_flight: list[tuple[int, Event]] = []  # sent on this connection
    for step in steps:
        if step == "partial":
            put(outbox, partial(utterance))
        elif step == "final":
            put(outbox, final(utterance))
            utterance += 1
        elif step == "take":
            if (event := outbox.take()) is not None:
                in_flight.append(event)
        else:
            arrived = data.draw(st.integers(0, len(in_flight)))
            received += in_flight[:arrived]
            in_flight = []
            outbox.rewind(received[-1][0] if received else 0)
    received += in_flight + drain(outbox)
    assert [event.utterance for _, event in received if isinstance(event, Final)] == list(range(utterance))
    seqs = [seq for seq, _ in received]
    assert seqs == sorted(set(seqs))


def test_the_bytes_of_encoded_messages_are_bounded_too() -> None:
    outbox: Outbox[bytes] = Outbox(100)
    large = bytes(5 << 20)
    outbox.put(large + large)
    assert not outbox.overflowing, "a single one may be as large as it has to be"
    outbox.put(b"x")
    assert outbox.overflowing
    outbox.take()
    assert not outbox.overflowing
    for _ in range(5):
        outbox.put(large, key="the newest")
    assert not outbox.overflowing, "those that were replaced do not count"
    outbox.put(large)
    assert outbox.overflowing
    outbox.clear()
    outbox.put(large)
    outbox.put(b"x")
    assert not outbox.overflowing


def test_bytes_that_wait_again_after_a_rewind_count_again() -> None:
    outbox: Outbox[bytes] = Outbox(100, replay=100)
    for _ in range(2):
        outbox.put(bytes(5 << 20))
        outbox.take()
    assert not outbox.overflowing
    outbox.rewind(0)
    assert outbox.overflowing
