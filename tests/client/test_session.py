"""The state of a session on the client's side, message by message, without a connection."""

from __future__ import annotations

import pytest
from parastream.client.errors import ClientError, ServerError
from parastream.client.session import ClientEvent, ResumableSession
from parastream.server.wire.messages import (
    PROTOCOL,
    Acknowledged,
    Done,
    Error,
    Final,
    Flush,
    Flushed,
    Partial,
    Ready,
    Resume,
    SetHotwords,
    Start,
    Stats,
    Stop,
)


def ready(acknowledged: int = 0, flushes: int = 0) -> Ready:
    return Ready("name", PROTOCOL, "model", "s16le", 16000, 1, 0, acknowledged, 20.0, 30.0, flushes)


def begun() -> ResumableSession:
    session = ResumableSession(Start(rate=8000), 10)
    assert session.first_message() == Start(rate=8000)
    assert session.connected(ready()) == 0
    return session


def outgoing(session: ResumableSession) -> list[bytes | Flush | SetHotwords | Stop]:
    messages: list[bytes | Flush | SetHotwords | Stop] = []
    while (message := session.next_message()) is not None:
        messages.append(bytes(message) if isinstance(message, memoryview) else message)
    return messages


def events(session: ResumableSession) -> list[ClientEvent]:
    found: list[ClientEvent] = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def partial(text: str, seq: int, utterance: int = 0) -> Partial:
    return Partial(utterance, 0.0, 1.0, "", text, (), seq=seq)


def test_stop_goes_out_behind_everything_else_and_again_on_a_new_connection() -> None:
    session = begun()
    session.window.add_audio(b"ab")
    session.stopped = True
    assert outgoing(session) == [b"ab", Stop()]
    assert session.connected(ready(acknowledged=1)) == 1
    assert outgoing(session) == [b"b", Stop()]


def test_a_flush_is_repeated_only_if_it_was_lost() -> None:
    session = begun()
    session.window.add_audio(b"ab")
    session.window.add(Flush())
    session.window.add(Flush())
    assert outgoing(session) == [b"ab", Flush(), Flush()]
    session.connected(ready(acknowledged=2, flushes=1))
    assert outgoing(session) == [Flush()]
    session.connected(ready(acknowledged=2, flushes=2))
    assert outgoing(session) == []


def test_a_new_connection_goes_on_after_the_last_event() -> None:
    session = begun()
    session.receive(Flushed(1.0, seq=3))
    assert session.first_message() == Resume("name", 3)
    session.receive(Flushed(1.0, seq=3))
    session.receive(Flushed(2.0, seq=4))
    assert events(session) == [Flushed(1.0, seq=3), Flushed(2.0, seq=4)]


def test_a_late_reader_gets_the_newest_partial_of_each_utterance() -> None:
    session = begun()
    for message in (partial("a", 1), partial("ab", 2), partial("x", 3, utterance=1), partial("abc", 4)):
        session.receive(message)
    assert events(session) == [partial("ab", 2), partial("x", 3, utterance=1), partial("abc", 4)]


def test_what_has_no_place_among_the_events_is_always_taken() -> None:
    session = begun()
    session.window.add_audio(b"abc")
    outgoing(session)
    session.receive(Stats(1.0, 0.0))
    session.receive(Acknowledged(3))
    session.receive(Done(1.0, seq=1))
    assert session.window.acknowledged == 3
    assert session.done
    assert events(session) == [Stats(1.0, 0.0), Done(1.0, seq=1)]


def test_an_incomplete_sample_is_told_in_its_place_and_other_errors_at_once() -> None:
    session = begun()
    final = Final(0, 0.0, 1.0, "One.", (), 0.9, seq=1)
    session.receive(final)
    session.receive(Error("incomplete_sample", "one byte is left", seq=2))
    session.receive(Done(1.0, seq=3))
    assert session.next_event() == final
    with pytest.raises(ServerError, match="one byte is left"):
        session.next_event()
    assert session.next_event() == Done(1.0, seq=3)
    with pytest.raises(ServerError, match="NaN"):
        begun().receive(Error("invalid_audio", "sample 7 is NaN", seq=1))


def test_a_second_ready_is_an_error() -> None:
    with pytest.raises(ClientError, match="second `ready`"):
        begun().receive(ready())


def test_a_session_that_the_server_had_nothing_of_begins_again_with_all_its_audio() -> None:
    session = begun()
    session.window.add_audio(b"ab")
    assert outgoing(session) == [b"ab"]
    assert session.begin_again()
    assert session.first_message() == Start(rate=8000)
    assert session.connected(ready()) == 0
    assert outgoing(session) == [b"ab"]


def test_a_session_of_which_the_server_had_something_cannot_begin_again() -> None:
    heard, told = begun(), begun()
    heard.window.add_audio(b"ab")
    outgoing(heard)
    heard.receive(Acknowledged(2))
    told.receive(partial("a", seq=1))
    assert not heard.begin_again()
    assert not told.begin_again()
