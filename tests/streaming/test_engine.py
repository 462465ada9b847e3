"""The engine: many sessions on one thread, each as if it were alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.errors import CapacityError, EngineError, HubError
from parastream.model.selection import Selection
from parastream.streaming import Engine, EngineConfig, Models, SessionConfig
from parastream.streaming.events import Event, InputRejected, SessionEnded
from parastream.streaming.runner import Runner
from parastream.streaming.session import Session
from parastream.streaming.work import WindowWork, Work

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


@pytest.mark.parametrize("count", [2, 10])
def test_sessions_together_hear_what_each_hears_alone(
    engine: Engine, recorder: Recorder, sample: Audio, count: int
) -> None:
    sample = sample[: 9 * 16000 - 8000]  # two sentences
    recordings = [np.roll(sample, -4000 * i)[: len(sample) - 1500 * i] for i in range(count)]
    together = [listener.outline for listener in talk(engine, recordings)]
    alone = [talk(engine, [recording])[0].outline for recording in recordings]
    assert together == alone
    assert [text for text, _, _ in together[0]] == SAMPLE_TEXTS[:2]
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

    def fail_once(self: Runner, batch: list[WindowWork], *, hurry: bool) -> None:
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


def failed(listener: Listener) -> bool:
    """Whether a session ended because it could not be served."""
    return any(isinstance(event, InputRejected) and event.code == "internal_error" for event in listener.wait())


@pytest.fixture
def sentence(sample: Audio) -> Audio:
    """The first sentence, with the silence that ends it."""
    return sample[: 4 * 16000]


def talk_beside(engine: Engine, sample: Audio, poison: str, config: SessionConfig | None = None) -> list[Listener]:
    """Three sessions with the same audio at the same time, the second of them called `poison`."""
    listeners = [Listener(engine, config, name) for name in ("first", poison, "third")]
    for listener in listeners:
        listener.stream.send(sample.tobytes())
        listener.stream.end()
    return listeners


@pytest.mark.parametrize("kind", ["run_vad", "run_windows", "run_finals", "run_punctuation"])
def test_a_session_that_makes_the_model_raise_ends_alone(
    engine: Engine, sentence: Audio, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run = getattr(Runner, kind)

    def stumble(self: Runner, batch: list[Work], **options: Any) -> Any:
        if any(work.session.name == "poison" for work in batch):
            raise ValueError("this audio is poison")
        return run(self, batch, **options)

    monkeypatch.setattr(Runner, kind, stumble)
    first, poisoned, third = talk_beside(engine, sentence, "poison")
    assert failed(poisoned)
    for healthy in (first, third):
        healthy.wait()
        assert [text for text, _, _ in healthy.outline] == SAMPLE_TEXTS[:1]


@pytest.mark.parametrize("kind", ["apply_vad", "apply_window", "apply_final", "apply_punctuation", "work", "events"])
def test_a_session_that_stumbles_itself_ends_alone(
    engine: Engine, sentence: Audio, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    step = getattr(Session, kind)

    def stumble(self: Session, *arguments: Any, **options: Any) -> Any:
        if self.name == "poison" and not self.ended:
            raise ValueError("this audio is poison")
        return step(self, *arguments, **options)

    monkeypatch.setattr(Session, kind, stumble)
    first, poisoned, third = talk_beside(engine, sentence, "poison")
    assert failed(poisoned)
    for healthy in (first, third):
        healthy.wait()
        assert [text for text, _, _ in healthy.outline] == SAMPLE_TEXTS[:1]


def test_a_batch_that_failed_half_way_is_computed_again_as_if_it_had_not_been(
    engine: Engine, sentence: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = type(engine.models.speech.network)
    step, select, together, failures = network.step, Selection.tokens, False, 0

    def note(self: Any, features: Any, *arguments: Any) -> Any:
        nonlocal together
        together = len(features) > 1
        try:
            return step(self, features, *arguments)
        finally:
            together = False

    def stumble(self: Any, *arguments: Any) -> Any:
        nonlocal failures
        tokens = select(self, *arguments)  # the states have advanced
        if together:
            failures += 1
            raise MemoryError("no room for this batch")
        return tokens

    streaming = SessionConfig(final_pass=False, punctuate=False)
    alone = Listener(engine, streaming)
    alone.stream.send(sentence.tobytes())
    alone.stream.end()
    alone.wait()
    monkeypatch.setattr(network, "step", note)
    monkeypatch.setattr(Selection, "tokens", stumble)
    for listener in talk_beside(engine, sentence, "second", streaming):
        listener.wait()
        assert listener.outline == alone.outline
    assert failures


def test_a_turn_that_fails_ends_its_sessions_and_the_engine_lives_on(
    engine: Engine, sample: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise ValueError("a bug")

    monkeypatch.setattr(Engine, "_beside", fail)
    unlucky = Listener(engine)
    unlucky.stream.send(sample.tobytes())
    assert failed(unlucky)
    assert [text for text, _, _ in talk(engine, [sample])[0].outline] == SAMPLE_TEXTS


def test_an_engine_that_fails_again_and_again_stops_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a bug")

    with running_engine(EngineConfig(target_utilisation=math.inf)) as engine:
        monkeypatch.setattr(Engine, "_beside", fail)
        for _ in range(3):
            listener = Listener(engine)
            listener.stream.send(bytes(PIECE))
            assert failed(listener)
        engine.wait_stopped()
        assert not engine.ready
        with pytest.raises(EngineError, match="a bug"):
            Listener(engine)


@pytest.mark.parametrize("replaceable", [False, True])
def test_an_engine_that_can_compute_nothing_any_more_stops(
    sample: Audio, monkeypatch: pytest.MonkeyPatch, *, replaceable: bool
) -> None:
    def lose(*_: object, **options: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    with running_engine(EngineConfig(target_utilisation=math.inf), replaceable=replaceable) as engine:
        assert [text for text, _, _ in talk(engine, [sample])[0].outline] == SAMPLE_TEXTS
        for name in ("step", "transcribe", "transcribe_in_slices"):
            monkeypatch.setattr(type(engine.models.speech.network), name, lose)
        listeners = [Listener(engine) for _ in range(3)]
        for listener in listeners:
            listener.stream.send(sample.tobytes())
        engine.wait_stopped()
        assert not engine.ready
        with pytest.raises(EngineError, match="nothing can be computed any more: an illegal memory access"):
            engine.check_running()
        told = sum(isinstance(event, InputRejected) for listener in listeners for event in listener.events)
        assert told == (0 if replaceable else len(listeners))


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
