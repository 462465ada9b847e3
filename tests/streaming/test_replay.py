"""A session that goes on elsewhere: nothing is lost, doubled or told again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.streaming import AudioFormat, EndpointConfig, Models, Session, SessionConfig
from parastream.streaming.endpoint import Endpointer, Start
from parastream.streaming.events import (
    Event,
    Final,
    Flushed,
    Partial,
    Progress,
    SpeechEnded,
    SpeechStarted,
    Tags,
)
from parastream.streaming.replay import Continuity
from parastream.streaming.runner import Runner
from parastream.streaming.vad import FRAME

from tests.conftest import SAMPLE_TEXTS

PIECE = 3210
"""Bytes of a message: 0.1 s and no whole number of frames of voice activity."""


class Moving:
    """A session that changes to another engine whenever it is told to."""

    def __init__(self, models: Models, config: SessionConfig = SessionConfig()) -> None:
        self.events: list[Event] = []
        self.heard = 0
        """Bytes that engines were given, those heard again included."""
        self._config = config
        self._runner = Runner(models)
        self._continuity = Continuity(config.format, config.endpoint)
        self._session: Session = self._runner.new_session(config)

    def send(self, data: bytes) -> None:
        self._continuity.send(data)
        self._session.receive_audio(data)
        self.heard += len(data)
        self.look()

    def flush(self) -> None:
        self._continuity.flush()
        self._session.receive_flush()

    def end(self) -> None:
        self._session.receive_end()
        self.look()

    def look(self) -> None:
        self._runner.run_all(self._session)
        self.events += self._continuity.receive(self._session.events())

    def move(self) -> None:
        replay, pieces = self._continuity.replay()
        self._session = self._runner.new_session(self._config, replay=replay)
        for piece in pieces:
            if piece is None:
                self._session.receive_flush()
            else:
                self._session.receive_audio(piece)
                self.heard += len(piece)


def pieces(samples: NDArray[np.int16]) -> Iterator[bytes]:
    data = samples.tobytes()
    return (data[first : first + PIECE] for first in range(0, len(data), PIECE))


def told(events: list[Event], *kinds: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kinds)]


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def check_order(events: list[Event]) -> None:
    """What a client relies on."""
    begun = [event.utterance for event in events if isinstance(event, SpeechStarted)]
    assert begun == list(range(len(begun)))
    assert [event.utterance for event in events if isinstance(event, Final)] == begun
    assert [event.utterance for event in events if isinstance(event, SpeechEnded)] == begun
    stable: dict[int, str] = {}
    for event in events:
        if isinstance(event, Partial):
            assert event.stable.startswith(stable.get(event.utterance, ""))
            stable[event.utterance] = event.stable
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress == sorted(progress, key=lambda event: event.time)
    assert progress == sorted(progress, key=lambda event: event.settled)


@pytest.fixture(scope="module")
def undisturbed(models: Models, sample: NDArray[np.int16]) -> list[Event]:
    session = Moving(models)
    for piece in pieces(sample):
        session.send(piece)
    session.end()
    return session.events


@pytest.mark.parametrize("start", [3])
def test_a_session_that_moves_tells_the_same(
    models: Models, sample: NDArray[np.int16], undisturbed: list[Event], start: int
) -> None:
    """It moves every 0.6 s, at other places in each run."""
    session = Moving(models)
    for count, piece in enumerate(pieces(sample)):
        session.send(piece)
        if count % 6 == start:
            session.move()
    session.end()
    check_order(session.events)
    assert texts(session.events) == texts(undisturbed) == SAMPLE_TEXTS
    assert session.events[-1] == undisturbed[-1]
    # Voice activity detection has a memory, so that an utterance may end some frames earlier or later.
    for moved, unmoved in zip(told(session.events, Final), told(undisturbed, Final), strict=True):
        assert isinstance(moved, Final)
        assert isinstance(unmoved, Final)
        assert (moved.start, moved.end) == pytest.approx((unmoved.start, unmoved.end), abs=0.2)
        assert [word.start for word in moved.words] == pytest.approx([word.start for word in unmoved.words], abs=0.2)


def test_flushes_move_too(models: Models, sample: NDArray[np.int16]) -> None:
    def run(*, moving: bool) -> list[Event]:
        session = Moving(models)
        for count, piece in enumerate(pieces(sample[:80000])):
            session.send(piece)
            if count % 15 == 14:
                session.flush()
                if moving:
                    session.move()
                session.look()
        session.end()
        return session.events

    moved, unmoved = run(moving=True), run(moving=False)
    check_order(moved)
    assert told(moved, Flushed) == told(unmoved, Flushed)
    assert len(told(moved, Flushed)) == 3
    assert texts(moved) == texts(unmoved)


def test_only_what_may_be_needed_is_kept(models: Models, sample: NDArray[np.int16]) -> None:
    silence = np.zeros(16000 * 5, np.int16)
    session = Moving(models)
    for piece in pieces(np.concatenate([sample, silence])):
        session.send(piece)
    before = session.heard
    session.move()
    assert (
        0 < session.heard - before <= 32000 * 1.5
    )  # a pre-roll, and the moment in which voice activity detection warms up


@pytest.mark.parametrize("rate", [8000, 44100])
def test_times_go_on_at_other_rates(models: Models, sample: NDArray[np.int16], rate: int) -> None:
    config = SessionConfig(format=AudioFormat(rate=rate))
    twice = [Moving(models, config), Moving(models, config)]
    resampled = np.interp(np.arange(0, 5, 1 / rate), np.arange(80000) / 16000, sample[:80000]).astype(np.int16)
    for count, piece in enumerate(pieces(resampled)):
        for session in twice:
            session.send(piece)
        if count % 40 == 20:
            twice[1].move()
    for session in twice:
        session.end()
    assert texts(twice[0].events) == texts(twice[1].events)
    assert twice[0].events[-1] == twice[1].events[-1]
    check_order(twice[1].events)


def test_utterances_begin_where_they_did() -> None:
    """Whatever the probabilities of the second hearing are."""
    config = EndpointConfig()
    begun = [3000, 40000, 41000]
    endpointer = Endpointer(config, begun)
    events = [event for _ in range(200) for event in endpointer.push(0.0, 0.0)]
    assert [event.sample for event in events if isinstance(event, Start)] == begun
    assert len(events) >= 2 * len(begun)


def test_utterances_begin_before_a_flush_ends_them() -> None:
    endpointer = Endpointer(EndpointConfig(), [600])
    assert endpointer.push(0.0, 0.0) == endpointer.push(0.0, 0.0) == []
    begin, end = endpointer.flush(2 * FRAME)
    assert (begin.sample if isinstance(begin, Start) else None) == 600
    assert not isinstance(end, Start)


def test_tags_have_the_number_of_their_utterance() -> None:
    continuity = Continuity(AudioFormat(), EndpointConfig())
    final = Final(0, 0.0, 1.0, "", (), 0.0)
    first: list[Event] = [SpeechStarted(0, 0.0), SpeechEnded(0, 1.0, "silence"), final, SpeechStarted(1, 1.0)]
    assert continuity.receive(first) == first
    continuity.replay()
    told = continuity.receive([SpeechStarted(0, 0.0), Tags(0, "sad", "")])
    assert told == [Tags(1, "sad", "")]
