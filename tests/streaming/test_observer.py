"""What the engine tells of its own work."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.streaming import Engine, EngineConfig, LoggingObserver, Models, Observer, SessionConfig
from parastream.streaming.events import Partial
from parastream.streaming.observer import Batch, FinalTiming, PartialTiming, Turn, describe
from parastream.streaming.vad import FRAME
from parastream.streaming.work import FinalWork, VadWork, WindowWork

from ..conftest import SAMPLE_TEXTS, running_engine
from .driver import finals
from .listening import BLOCK, Listener, Recorder
from .scripted import ScriptedSession, hypothesis, token

Audio = NDArray[np.int16]
RATE = 16000


class Faulty(Observer):
    """Raises each time it is told something."""

    def __init__(self) -> None:
        self.told = 0

    def turn(self, turn: Turn) -> None:
        self.told += 1
        raise RuntimeError("this observer is broken")


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def engine(recorder: Recorder) -> Iterator[Engine]:
    with running_engine(EngineConfig(target_utilisation=math.inf), recorder) as engine:
        yield engine


def speak(engine: Engine, sample: Audio, name: str) -> Listener:
    """A session that sends a block when the one before has been looked at."""
    listener = Listener(engine, name=name)
    for start in range(0, len(sample), BLOCK):
        listener.stream.send(sample[start : start + BLOCK].tobytes())
        sent = min(start + BLOCK, len(sample)) / RATE
        listener.wait_until(lambda sent=sent: listener.looked_at >= sent)  # type: ignore[misc]
    listener.stream.end()
    listener.wait()
    return listener


def test_each_partial_and_each_final_is_timed_and_each_batch_reported(
    engine: Engine, recorder: Recorder, sample: Audio
) -> None:
    recorder.watch()
    listener = speak(engine, sample, "anna")
    recorder.wait_until(lambda: engine.stats().sessions == 0)
    partials = [event for event in listener.events if isinstance(event, Partial)]
    assert [partial.utterance for partial in recorder.partials] == [partial.utterance for partial in partials]
    assert all(0 < partial.latency < 60 for partial in recorder.partials)
    assert [final.utterance for final in recorder.finals] == [0, 1, 2]
    for timing, final in zip(recorder.finals, finals(listener.events), strict=True):
        assert timing.session == "anna"
        assert timing.seconds == pytest.approx(final.end - final.start, abs=0.001)
        assert timing.reason == "silence"
        assert timing.begun is not None
        assert timing.begun <= timing.done <= timing.marked <= timing.told
        assert timing.audio_in <= timing.decided <= timing.told
        assert timing.latency == timing.told - timing.audio_in
        assert not timing.ahead
    windows = recorder.batches("windows")
    assert sum(batch.size for batch in windows) >= len(partials)
    assert {batch.sessions for batch in windows} == {("anna",)}
    assert sum(batch.units for batch in recorder.batches("vad")) == len(sample) // FRAME
    assert all(0 <= batch.wait < 60 and batch.seconds > 0 for batch in recorder.batches("vad", "windows", "marks"))
    for turn in recorder.turns:
        assert sum(batch.seconds for batch in turn.batches) <= turn.seconds


def test_audio_ahead_of_real_time_is_said_to_be(engine: Engine, recorder: Recorder, sample: Audio) -> None:
    recorder.watch()
    listener = Listener(engine)
    listener.stream.send(np.tile(sample, 3).tobytes())
    listener.stream.end()
    listener.wait()
    assert recorder.finals[-1].ahead


def test_an_observer_that_raises_is_logged_once_and_told_nothing_more(
    recorder: Recorder, sample: Audio, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = Faulty()
    with running_engine(EngineConfig(target_utilisation=math.inf), faulty, recorder) as engine:
        recorder.watch()
        assert [final.text for final in finals(speak(engine, sample, "").events)] == SAMPLE_TEXTS
    assert faulty.told == 1
    assert len(recorder.turns) > 1
    (record,) = [record for record in caplog.records if "observer" in record.message]
    assert record.levelno == logging.ERROR
    assert "told nothing more" in record.message


# --- stations on a clock of the test's ---------------------------------------------------------


def test_the_stations_of_an_utterance(models: Models) -> None:
    """A frame comes every second, and is judged half a second later."""
    now = 0.0
    session = ScriptedSession(models.speech, models.vad, SessionConfig(), [], clock=lambda: now).session
    timings: list[PartialTiming | FinalTiming] = []
    last_pass: FinalWork | None = None
    for frame in range(60):
        now = float(frame)
        session.receive_audio(bytes(2 * FRAME))
        now += 0.5
        for work in session.work():
            match work:
                case VadWork():
                    session.apply_vad(work, np.array([0.9 if frame < 30 else 0.0], np.float32))
                case WindowWork():
                    session.apply_window(work, token())
                case FinalWork():
                    last_pass = work
        session.events()
        timings += session.timings
    assert last_pass is not None
    now = 100.0
    session.apply_final(last_pass, hypothesis())
    now = 101.0
    session.events()
    (final,) = session.timings
    assert final == FinalTiming(
        session="scripted",
        utterance=0,
        seconds=(30 * FRAME + 4800) / RATE,
        reason="silence",
        audio_in=48.0,  # the frame in which 0.6 s of silence were over
        decided=48.5,
        begun=None,
        overtaken=0,
        overtaken_seconds=0.0,
        done=100.0,
        marked=100.0,
        told=101.0,
        ahead=False,
    )
    # Windows of 0.6 s are complete in the 19th and 38th frame; they are computed when the session is asked again.
    assert [(timing.audio_in, timing.told) for timing in timings] == [(18.0, 19.5), (37.0, 38.5)]


def test_the_audio_of_a_flush_is_in_when_it_is_asked_for(models: Models) -> None:
    now = 1.0
    scripted = ScriptedSession(models.speech, models.vad, SessionConfig(), [0.9] * 40, clock=lambda: now)
    scripted.session.receive_audio(bytes(2 * 40 * FRAME))
    scripted.drain()
    now = 5.0
    scripted.session.receive_flush()
    scripted.drain()
    (final,) = scripted.session.timings
    assert isinstance(final, FinalTiming)
    assert (final.reason, final.audio_in, final.latency) == ("flush", 5.0, 0.0)


FINAL = FinalTiming("ab12", 3, 2.84, "silence", 10.0, 10.031, 10.045, 2, 0.04, 10.18, 10.205, 10.212, ahead=False)


def test_a_final_is_described_by_the_milliseconds_between_its_stations() -> None:
    assert describe(FINAL) == (
        "session ab12, utterance 3 (2.8 s, silence): final 212 ms after its audio: end decided +31, pass begun +14,"
        " words there +135 (overtaken 2 times, 40 ms), marks there +25, told +7"
    )
    early = replace(FINAL, session="", begun=9.8, done=9.9, marked=9.9, overtaken=0, told=10.04, ahead=True)
    assert describe(early) == (
        "session -, utterance 3 (2.8 s, silence): final 40 ms after its audio (ahead of real time): pass begun -200,"
        " words there +100, end decided +131, told +9"
    )
    assert "pass begun" not in describe(replace(FINAL, begun=None))


def test_the_log_says_where_the_time_went(caplog: pytest.LogCaptureFixture) -> None:
    observer = LoggingObserver()
    batches = (Batch("vad", ("a", "b"), 6, 0.01, 0.0), Batch("finals", ("a",), 90, 0.3, 0.1, complete=False))
    with caplog.at_level(logging.INFO, "parastream.engine"):
        observer.final(FINAL)
    with caplog.at_level(logging.DEBUG, "parastream.engine"):
        observer.final(FINAL)
        observer.turn(Turn(10.0, 0.1, batches, 0))
        observer.turn(Turn(10.0, 0.32, batches, 0))
    assert [record.message for record in caplog.records] == [
        describe(FINAL),
        "a turn took 320 ms: vad of 2 10 ms, finals of 1 300 ms",
    ]
