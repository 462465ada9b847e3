"""What listeners are told, whatever becomes of the client and of the other listeners."""

from __future__ import annotations

import pytest
from parastream.server.protocols.base import Adapter
from parastream.server.protocols.native.session import NativeSession
from parastream.server.protocols.vosk import Vosk
from parastream.server.sessions.transcription import Progress, State, Transcription
from parastream.server.wire import messages
from parastream.server.wire.messages import Event, Final, Start
from parastream.streaming import events
from parastream.streaming.events import Partial as PartialOfTheEngine

from ..fakes import UTTERANCE, FakeEngine, admission
from ..protocols.talking import Talk


def test_listeners_hear_of_the_event_at_which_a_slow_client_is_cut_off() -> None:
    session = NativeSession("slow", Start(partials=False), admission(FakeEngine()).begin, max_unsent=2)
    heard: list[str] = []
    session.transcription.listeners.append(lambda event: heard.append(type(event).__name__))
    session.transcription.on_ended.append(lambda: heard.append("ended"))
    session.transcription.send(bytes(UTTERANCE))
    assert session.aborted
    assert heard == ["SpeechStarted", "SpeechEnded", "Final", "Error", "ended"]


def test_tags_and_languages_reach_the_client() -> None:
    delivered: list[Event | Progress] = []
    engine = FakeEngine()
    admission(engine).begin(Start(language="en", tags=True), delivered.append, "session")
    (stream,) = engine.streams
    assert (stream.config.language, stream.config.tags) == ("en", True)
    final = events.Final(0, 0.0, 1.0, "ha", (), 0.0, "model", "en")
    stream.tell([events.SpeechStarted(0, 0.0), events.Tags(0, "happy", "laughter"), final])
    assert delivered[1:] == [
        messages.Tags(0, "happy", "laughter"),
        messages.Final(0, 0.0, 1.0, "ha", (), 0.0, ear="model", language="en"),
    ]


def test_a_listener_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    delivered: list[Event] = []
    heard: list[Event] = []

    def fail(event: Event) -> None:
        raise ValueError("no room")

    def keep(event: Event | Progress) -> None:
        if not isinstance(event, Progress):
            delivered.append(event)

    transcription = admission(FakeEngine()).begin(Start(), keep, "session")
    transcription.listeners += [fail, heard.append]
    transcription.send(bytes(UTTERANCE))
    transcription.end()
    assert isinstance(delivered[-1], messages.Done)
    assert heard == delivered
    assert caplog.text.count("a listener failed") == 1


def test_a_protocol_that_fails_ends_its_own_connection_after_all_audio_accepted_was_recognised(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Adapter, transcription: Transcription, event: Event) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Vosk, "apply", fail)
    talk = Talk(Vosk)
    heard: list[Event] = []
    talk.say(b"\0\0")
    (transcription,) = talk.admission.open
    transcription.listeners.append(heard.append)
    talk.stream.hold_end = True
    talk.say(bytes(UTTERANCE + 100))
    talk.stream.hold_end = talk.stream.ended = False
    talk.stream.end()
    assert transcription.state is State.ENDED
    assert talk.adapter.ending == (1011, "internal: internal error; the server's log says more")
    assert "a bug" in caplog.text
    assert len([event for event in heard if isinstance(event, Final)]) == 2
    assert isinstance(heard[-1], messages.Error)


def test_an_event_that_makes_no_sense_ends_one_session_only(caplog: pytest.LogCaptureFixture) -> None:
    engine, told = FakeEngine(), list[Event]()

    def keep(event: Event | Progress) -> None:
        if not isinstance(event, Progress):
            told.append(event)

    gate = admission(engine)
    gate.begin(Start(), keep, "broken")
    other = gate.begin(Start(), lambda event: None, "other")
    engine.streams[0].tell([PartialOfTheEngine(7, 0, 1, "never", "begun", ())])
    assert [type(event) for event in told] == [messages.Error]
    assert engine.streams[0].cancelled
    assert gate.open == [other]
    assert "internal error" in caplog.text


def test_a_failure_at_the_end_of_one_listener_does_not_hide_the_end_from_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    gate = admission(FakeEngine())
    transcription = gate.begin(Start(), lambda event: None, "session")
    transcription.on_ended.insert(0, fail)
    transcription.end()
    assert gate.open == []
    assert "a bug" in caplog.text
