"""The engine: many sessions on one thread, each as if it were alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.errors import CapacityError, EngineError, HubError
from parastream.streaming import Engine, EngineConfig, Models, SessionConfig
from parastream.streaming.events import Event, InputRejected, SessionEnded
from parastream.streaming.runner import Runner
from parastream.streaming.work import WindowWork

from ..conftest import SAMPLE_TEXTS, load_models, running_engine
from .driver import finals
from .listening import Listener, Recorder, talk

Audio = NDArray[np.int16]
PIECE = 3200


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def engine(recorder: Recorder) -> Iterator[Engine]:
    with running_engine(EngineConfig(max_sessions=25, target_utilisation=math.inf), recorder) as engine:
        yield engine


@pytest.mark.parametrize("count", [2, 20])
def test_sessions_together_hear_what_each_hears_alone(
    engine: Engine, recorder: Recorder, sample: Audio, count: int
) -> None:
    recordings = [np.roll(sample, -4000 * i)[: len(sample) - 1500 * i] for i in range(count)]
    together = [listener.outline for listener in talk(engine, recordings)]
    alone = [talk(engine, [recording])[0].outline for recording in recordings]
    assert together == alone
    assert [text for text, _, _ in together[0]] == SAMPLE_TEXTS
    recorder.wait_until(lambda: engine.stats().sessions == 0)


def test_work_of_many_sessions_is_batched(engine: Engine, sample: Audio) -> None:
    before = engine.stats()
    talk(engine, [sample] * 8)
    after = engine.stats()
    assert after.windows - before.windows >= 8 * 8
    assert (after.windows - before.windows) > 2 * (after.window_batches - before.window_batches)
    assert after.busy > before.busy


def test_more_sessions_than_allowed_are_refused_and_leave_the_others_alone(engine: Engine, sample: Audio) -> None:
    listeners = [Listener(engine) for _ in range(25)]
    with pytest.raises(CapacityError, match="25 sessions"):
        Listener(engine)
    for listener in listeners[1:]:
        listener.stream.cancel()
    listeners[0].stream.send(sample.tobytes())
    listeners[0].stream.end()
    assert [f.text for f in finals(listeners[0].wait())] == SAMPLE_TEXTS
    Listener(engine).stream.end()


def test_a_session_that_vanishes_or_whose_listener_fails_disturbs_nobody(engine: Engine, sample: Audio) -> None:
    def fail(events: list[Event]) -> None:
        raise RuntimeError("this listener is broken")

    broken = engine.open(SessionConfig(), fail)
    vanishing, healthy = Listener(engine), Listener(engine)
    for start in range(0, len(sample), PIECE):
        data = sample[start : start + PIECE].tobytes()
        broken.send(data)
        healthy.stream.send(data)
        vanishing.stream.send(data)
        if start > len(sample) // 3:
            vanishing.stream.cancel()
    healthy.stream.end()
    assert [f.text for f in finals(healthy.wait())] == SAMPLE_TEXTS
    assert not vanishing.ended


def test_a_batch_that_fails_ends_only_its_own_sessions(
    engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_windows = Runner.run_windows

    def fail_once(self: Runner, batch: list[WindowWork]) -> None:
        monkeypatch.setattr(Runner, "run_windows", run_windows)
        raise MemoryError("no room for this batch")

    monkeypatch.setattr(Runner, "run_windows", fail_once)
    unlucky = Listener(engine)
    unlucky.stream.send(sample.tobytes())
    rejected, ended = unlucky.wait()[-2:]
    assert isinstance(rejected, InputRejected)
    assert rejected.code == "internal_error"
    assert isinstance(ended, SessionEnded)
    assert talk(engine, [sample])[0].outline[0][0] == SAMPLE_TEXTS[0]


def test_audio_after_the_end_is_not_heard(engine: Engine, sample: Audio) -> None:
    listener = Listener(engine)
    listener.stream.send(sample.tobytes())
    listener.stream.end()
    listener.stream.send(sample.tobytes())
    listener.stream.end()
    assert listener.wait()[-1] == SessionEnded(len(sample) / 16000)


def test_backlog_counts_seconds_that_wait(engine: Engine, sample: Audio) -> None:
    listener = Listener(engine)
    assert listener.stream.backlog == 0
    listener.stream.send(sample.tobytes())
    listener.stream.end()
    listener.wait()
    assert listener.stream.backlog == 0


def test_an_engine_whose_models_cannot_be_loaded_says_why() -> None:
    def load() -> Models:
        raise HubError("no such model")

    engine = Engine(load)
    with pytest.raises(EngineError, match="not loaded"):
        engine.open(SessionConfig(), print)
    engine.start()
    with pytest.raises(HubError, match="no such model"):
        engine.wait_ready(10)
    assert not engine.ready
    with pytest.raises(EngineError, match="no such model"):
        engine.open(SessionConfig(), print)
    engine.close()


def test_a_closed_engine_takes_nothing_more() -> None:
    engine = Engine(lambda: replace(load_models(), punctuation=None))
    engine.start()
    engine.wait_ready(60)
    listener = Listener(engine)
    engine.close()
    assert not engine.ready
    with pytest.raises(EngineError, match="stopped"):
        listener.stream.send(b"\0\0")
