"""Drives one session to its end, as the engine would, without threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parastream.streaming import Models, Session, SessionConfig
from parastream.streaming.events import Event, Final
from parastream.streaming.runner import Runner
from parastream.streaming.work import FinalWork, PunctuationWork, VadWork, WindowWork, Work


def drive(runner: Runner, session: Session) -> None:
    """Does all the work that the session has."""
    for _ in steps(runner, session):
        pass


def steps(runner: Runner, session: Session) -> Iterator[list[Work]]:
    """As `drive`, but yields what the session has handed out before it is done."""
    while work := session.work():
        yield work
        for item in work:
            match item:
                case VadWork():
                    runner.run_vad([item])
                case WindowWork():
                    runner.run_windows([item])
                case FinalWork():
                    for _ in runner.run_finals([item], steps=3):
                        pass
                case PunctuationWork():
                    runner.run_punctuation([item])


def converse(models: Models, pieces: Iterable[bytes], config: SessionConfig) -> list[Event]:
    """All events of a session that gets these pieces and then the end of its input."""
    runner = Runner(models)
    session = runner.new_session(config)
    events: list[Event] = []
    for piece in pieces:
        session.receive_audio(piece)
        drive(runner, session)
        events += session.events()
    session.receive_end()
    drive(runner, session)
    assert session.ended
    return events + session.events()


def finals(events: Iterable[Event]) -> list[Final]:
    """Only the finals."""
    return [event for event in events if isinstance(event, Final)]
